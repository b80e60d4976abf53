//! What goes wrong: in requests, at operators, and on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy_primitives::B256;
use assay_receipt::Receipt;
use serde_json::{Value, json};

use super::{Behaviour, MODEL, POOR, Step, World, chat_body, client, until};

#[tokio::test(flavor = "multi_thread")]
async fn wrong_parameters_are_named() {
    let world = World::start().await;
    for (fields, param) in [
        (json!({"model": 5}), "model"),
        (json!({"messages": []}), "messages"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages",
        ),
        (json!({"temperature": -1}), "temperature"),
        (json!({"temperature": 1e300}), "temperature"),
        (json!({"top_p": 1.5}), "top_p"),
        (json!({"min_p": "x"}), "min_p"),
        (json!({"top_k": -7}), "top_k"),
        (json!({"repetition_penalty": 0}), "repetition_penalty"),
        (json!({"frequency_penalty": 2.5}), "frequency_penalty"),
        (json!({"presence_penalty": -2.5}), "presence_penalty"),
        (json!({"logit_bias": {"999999": 1}}), "logit_bias"),
        (json!({"n": 0}), "n"),
        (json!({"n": 1000}), "n"),
        (json!({"seed": 0.5}), "seed"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (
            json!({"max_completion_tokens": -1}),
            "max_completion_tokens",
        ),
        (json!({"max_tokens": 1_000_000_000}), "max_tokens"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
        (json!({"stop": ""}), "stop"),
        (json!({"stop": 5}), "stop"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"stream_options": 1}), "stream_options"),
        (
            json!({"logprobs": true, "top_logprobs": 21}),
            "top_logprobs",
        ),
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (json!({"tools": [{"type": "retrieval"}]}), "tools"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (
            json!({"response_format": {"type": "xml"}}),
            "response_format",
        ),
        (
            json!({"response_format": {"type": "json_schema"}}),
            "response_format",
        ),
        (json!({"audio": {"voice": "x"}}), "audio"),
        (json!({"modalities": ["text", "audio"]}), "modalities"),
        (json!({"functions": []}), "functions"),
    ] {
        let reply = world.chat(fields.clone()).await.whole().await;
        let error = &reply.body["error"];
        assert_eq!(reply.status, 400, "{fields}: {}", reply.body);
        assert_eq!(error["param"], param, "{fields}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|words| !words.is_empty())
        );
    }
    for (path, body, param) in [
        ("/completions", json!({"model": MODEL}), "prompt"),
        (
            "/completions",
            json!({"model": MODEL, "prompt": ""}),
            "prompt",
        ),
        (
            "/completions",
            json!({"model": MODEL, "prompt": [5, -1]}),
            "prompt",
        ),
        (
            "/completions",
            json!({"model": MODEL, "prompt": "x", "suffix": "y"}),
            "suffix",
        ),
        (
            "/completions",
            json!({"model": MODEL, "prompt": "x", "best_of": 3}),
            "best_of",
        ),
        (
            "/completions",
            json!({"model": MODEL, "prompt": "x", "echo": true, "logprobs": 1}),
            "echo",
        ),
        ("/responses", json!({"model": MODEL}), "input"),
        ("/responses", json!({"model": MODEL, "input": []}), "input"),
        (
            "/responses",
            json!({"model": MODEL, "input": [{"type": "item_reference"}]}),
            "input",
        ),
        (
            "/responses",
            json!({"model": MODEL, "input": "x", "previous_response_id": "resp_1"}),
            "previous_response_id",
        ),
        (
            "/responses",
            json!({"model": MODEL, "input": "x", "background": true}),
            "background",
        ),
        (
            "/responses",
            json!({"model": MODEL, "input": "x", "text": {"format": {"type": "xml"}}}),
            "text",
        ),
    ] {
        let reply = world.post(path, body.clone()).await.whole().await;
        assert_eq!(
            (reply.status, &reply.body["error"]["param"]),
            (400, &json!(param)),
            "{body}: {}",
            reply.body
        );
    }
    let nan = br#"{"model": "echo", "messages": [], "temperature": NaN}"#;
    let body: Value =
        serde_json::from_str(std::str::from_utf8(nan).unwrap()).unwrap_or(Value::Null);
    assert!(body.is_null());
    assert!(world.operator().asked.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_above_the_context_is_refused_with_both_numbers() {
    let world = World::start().await;
    let long = json!([{"role": "user", "content": "x".repeat(2_500)}]);
    let reply = world.chat(json!({"messages": long})).await.whole().await;
    assert_eq!(
        (reply.status, reply.body["error"]["code"].as_str()),
        (400, Some("context_length_exceeded"))
    );
    assert_eq!(reply.body["error"]["param"], "messages");
    let message = reply.body["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("2048") && message.contains("25"),
        "{message}"
    );
    let reply = world
        .post("/responses", json!({"model": MODEL, "input": long}))
        .await
        .whole()
        .await;
    assert_eq!(reply.body["error"]["code"], "context_length_exceeded");
    assert_eq!(reply.body["error"]["param"], "input");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_pay_and_what_is_not_there() {
    let world = World::start().await;
    let body = chat_body(json!({}));
    let poor = client::call(&world.base, "POST", "/chat/completions", Some(&body), POOR);
    let poor = poor.await.whole().await;
    assert_eq!(
        (
            poor.status,
            poor.headers["x-should-retry"].to_str().unwrap()
        ),
        (402, "false")
    );
    let missing = world.chat(json!({"model": "ekho"})).await.whole().await;
    assert_eq!(
        (missing.status, missing.body["error"]["code"].as_str()),
        (404, Some("model_not_found"))
    );
    world.play(|_| Behaviour {
        refuse: Some((503, "stake")),
        ..Behaviour::default()
    });
    let none = world.chat(json!({"stream": true})).await.whole().await;
    assert_eq!(
        (none.status, none.body["error"]["code"].as_str()),
        (503, Some("no_operator"))
    );
    assert_eq!(none.headers["retry-after"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn full_queues_say_when_to_come_back() {
    let world = World::with(1, |config| config.queue = 1).await;
    world.steps(vec![Step::Babble(65, Duration::from_millis(10))]);
    let mut first = world.chat(json!({"stream": true})).await;
    first.part().await.unwrap().unwrap();
    let second = world.chat(json!({})).await.whole().await;
    assert_eq!(
        (second.status, second.body["error"]["code"].as_str()),
        (429, Some("queue_full"))
    );
    assert_eq!(second.headers["retry-after"], "1");
    drop(first);
    until("the place is given back", || {
        world.operator().cancelled.load(Ordering::SeqCst) == 1
    })
    .await;
    world.play(|_| Behaviour {
        refuse: Some((429, "busy")),
        ..Behaviour::default()
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let busy = world.chat(json!({})).await.whole().await;
    assert_eq!(
        (busy.status, busy.body["error"]["code"].as_str()),
        (429, Some("queue_full"))
    );
    // It is not passed over for being busy.
    world.say("again");
    assert_eq!(world.chat(json!({})).await.whole().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_after_the_first_byte_is_the_last_event() {
    let world = World::start().await;
    for step in [Step::Fail("failed"), Step::Break] {
        world.steps(vec![Step::Say(world.ids("Hel")), step]);
        let (events, done) = world.chat(json!({"stream": true})).await.events().await;
        assert!(!done);
        assert_eq!(events.last().unwrap()["error"]["code"], "no_operator");
        let body = json!({"model": MODEL, "input": "x", "stream": true});
        let text = world.post("/responses", body).await.text().await;
        let (events, _) = client::read_events(&text);
        let last = events.last().unwrap();
        assert_eq!(
            (&last["type"], &last["code"]),
            (&json!("error"), &json!("no_operator"))
        );
        assert_eq!(last["error"]["code"], "no_operator");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_does_not_check_is_no_answer() {
    let world = World::start().await;
    let forgeries: [fn(&mut Receipt); 7] = [
        |receipt| receipt.n_out += 1,
        |receipt| receipt.n_in += 1,
        |receipt| receipt.output_commit = B256::repeat_byte(1),
        |receipt| receipt.sampling_hash = B256::repeat_byte(1),
        |receipt| receipt.ext_hash = B256::repeat_byte(1),
        |receipt| receipt.fee += 1,
        |receipt| receipt.exposure -= 1,
    ];
    for (number, forge) in forgeries.into_iter().enumerate() {
        let steps = vec![Step::Say(world.turn("lie"))];
        world.play(move |_| Behaviour {
            steps: steps.clone(),
            forge: Some(forge),
            ..Behaviour::default()
        });
        let reply = world.chat(json!({})).await.whole().await;
        let error = reply.body["error"]["code"].as_str();
        assert_eq!(
            (reply.status, error),
            (502, Some("bad_receipt")),
            "{number}: {}",
            reply.body
        );
        let (events, done) = world.chat(json!({"stream": true})).await.events().await;
        assert!(!done);
        assert_eq!(events.last().unwrap()["error"]["code"], "bad_receipt");
    }
    // An answer that ends without a reason, or goes on behind its end.
    let mut behind = world.turn("end");
    behind.extend(world.ids("more"));
    for steps in [vec![Step::Say(world.ids("cut"))], vec![]] {
        world.steps(steps);
        assert_eq!(world.chat(json!({})).await.whole().await.status, 502);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_operator_goes_on_where_one_broke() {
    let world = World::with(2, |_| {}).await;
    let broken = Arc::new(AtomicBool::new(false));
    let (whole, half) = (world.turn("unbroken"), world.ids("unbr"));
    let script = {
        let broken = Arc::clone(&broken);
        move |_: &super::Asked| {
            if broken.swap(true, Ordering::SeqCst) {
                return Behaviour {
                    steps: vec![Step::Say(whole.clone())],
                    ..Behaviour::default()
                };
            }
            Behaviour {
                steps: vec![Step::Say(half.clone()), Step::Break],
                ..Behaviour::default()
            }
        }
    };
    world.play(script);
    let (events, done) = world.chat(json!({"stream": true})).await.events().await;
    assert!(done, "{events:?}");
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "unbroken");
    let asked: Vec<_> = world
        .operators
        .iter()
        .flat_map(|one| one.asked.lock().clone())
        .collect();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].sampling, asked[1].sampling);

    // Other tokens for the same request: one of the two lies, nothing is glued together.
    broken.store(false, Ordering::SeqCst);
    let (first, other) = (world.ids("unbr"), world.turn("unlike"));
    world.play(move |_| {
        if broken.swap(true, Ordering::SeqCst) {
            return Behaviour {
                steps: vec![Step::Say(other.clone())],
                ..Behaviour::default()
            };
        }
        Behaviour {
            steps: vec![Step::Say(first.clone()), Step::Break],
            ..Behaviour::default()
        }
    });
    let (events, done) = world.chat(json!({"stream": true})).await.events().await;
    assert!(!done);
    assert_eq!(events.last().unwrap()["error"]["code"], "bad_receipt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_does_not_wait_for_long_answers() {
    let world = World::start().await;
    world.steps(vec![Step::Babble(65, Duration::from_millis(20))]);
    let reply = world.chat(json!({"stream": true})).await;
    let stopped = tokio::spawn(world._gateway.stop());
    let (events, done) = reply.events().await;
    assert!(!done);
    assert_eq!(events.last().unwrap()["error"]["code"], "stopping");
    tokio::time::timeout(Duration::from_secs(5), stopped)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_take_too_long_end() {
    let world = World::with(1, |config| {
        config.answer_timeout = Duration::from_millis(300)
    })
    .await;
    world.steps(vec![Step::Babble(65, Duration::from_millis(20))]);
    let reply = world.chat(json!({})).await.whole().await;
    assert_eq!(
        (reply.status, reply.body["error"]["code"].as_str()),
        (504, Some("timeout"))
    );
    assert_eq!(reply.headers["x-should-retry"], "false");
    let (events, done) = world.chat(json!({"stream": true})).await.events().await;
    assert!(!done);
    assert_eq!(events.last().unwrap()["error"]["code"], "timeout");
    until("both are cancelled", || {
        world.operator().cancelled.load(Ordering::SeqCst) == 2
    })
    .await;
}
