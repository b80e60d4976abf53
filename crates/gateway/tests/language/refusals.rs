//! Whose fault it is when an answer can't go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{Asked, Behaviour, Step, World};

/// Whoever is asked first does one thing, those after it another.
fn first_and_next(
    world: &World,
    first: impl Fn(&Asked) -> Behaviour + Send + Sync + Clone + 'static,
    next: impl Fn(&Asked) -> Behaviour + Send + Sync + Clone + 'static,
) {
    let asked = Arc::new(AtomicUsize::new(0));
    world.play(move |request| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => first(request),
        _ => next(request),
    });
}

fn object() -> Value {
    json!({"response_format": {"type": "json_object"}, "logprobs": true})
}

#[tokio::test(flavor = "multi_thread")]
async fn one_operator_that_lies_does_not_end_the_call() {
    let text = r#"{"city": "Rome"}"#;
    for bare in [false, true] {
        let world = World::with(2, |_| {}).await;
        // Half of it, and then a token that the grammar forbids, or from the start without probabilities.
        let lie = if bare { text } else { r#"{"city"5"# };
        let (lie, truth) = (world.ids(lie), world.turn(text));
        let language = world.language.clone();
        first_and_next(
            &world,
            move |_| Behaviour {
                steps: vec![Step::Say(lie.clone())],
                bare,
                ..Behaviour::default()
            },
            move |asked| World::constrained(&language, asked, truth.clone()),
        );
        let reply = world.chat(object()).await.whole().await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert_eq!(reply.body["choices"][0]["message"]["content"], text);
        let asked = world.operators.iter().map(|one| one.asked.lock().len());
        assert_eq!(asked.collect::<Vec<_>>(), [1, 1]);
    }
}

/// Operators that were asked since the last time, and failures that were counted against them so far.
async fn toll(world: &World) -> (usize, String) {
    let asked = world.operators.iter().map(|one| {
        let count = one.asked.lock().len();
        one.asked.lock().clear();
        count
    });
    let asked = asked.sum();
    let root = world.base.strip_suffix("/v1").unwrap();
    let metrics = super::client::call(root, "GET", "/metrics", None, super::RICH).await;
    let text = metrics.text().await;
    let line = text
        .lines()
        .find(|line| line.contains("operator_failures") && !line.starts_with('#'));
    let count = line.and_then(|line| line.rsplit(' ').next()).unwrap();
    (asked, count.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_too_costly_in_the_middle_is_the_callers() {
    let world = World::with(2, |_| {}).await;
    world.steps(vec![Step::Say(world.ids("{")), Step::Fail("grammar")]);
    let reply = world.chat(object()).await.whole().await;
    let error = &reply.body["error"];
    assert_eq!(
        (reply.status, &error["type"], &error["param"]),
        (
            400,
            &json!("invalid_request_error"),
            &json!("response_format")
        ),
        "{}",
        reply.body
    );
    assert_eq!(toll(&world).await, (1, "0".to_owned()));
    let mut streamed = object();
    streamed["stream"] = json!(true);
    let (events, done) = world.chat(streamed).await.events().await;
    assert!(!done);
    assert_eq!(events.last().unwrap()["error"]["param"], "response_format");
    assert_eq!(toll(&world).await, (1, "0".to_owned()));

    // Without a grammar that excuse is no excuse.
    let reply = world.chat(json!({})).await.whole().await;
    assert_eq!(
        (reply.status, &reply.body["error"]["code"]),
        (503, &json!("no_operator"))
    );
    assert_eq!(toll(&world).await, (2, "2".to_owned()));
}
