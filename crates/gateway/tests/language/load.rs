//! Many clients at once: those who read, those who do not, and those who leave.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Behaviour, Step, World, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cancels_its_answer_and_no_other() {
    let world = World::start().await;
    world.steps(vec![Step::Babble(65, Duration::from_millis(5))]);
    let mut stays = world.chat(json!({"stream": true, "max_tokens": 100})).await;
    stays.part().await.unwrap().unwrap();
    let mut leaves = world.chat(json!({"stream": true, "n": 2})).await;
    leaves.part().await.unwrap().unwrap();
    until("all are asked", || {
        world.operator().running.load(Ordering::SeqCst) == 3
    })
    .await;
    drop(leaves);
    until("its answers are cancelled", || {
        world.operator().cancelled.load(Ordering::SeqCst) == 2
    })
    .await;
    let (_, done) = stays.events().await;
    assert!(done);
    assert_eq!(world.operator().finished.load(Ordering::SeqCst), 1);

    // The same without a stream.
    let body = super::chat_body(json!({}));
    let base = world.base.clone();
    let waits = tokio::spawn(async move {
        super::client::call(&base, "POST", "/chat/completions", Some(&body), super::RICH).await
    });
    until("it is asked", || {
        world.operator().running.load(Ordering::SeqCst) == 1
    })
    .await;
    waits.abort();
    until("it is cancelled", || {
        world.operator().cancelled.load(Ordering::SeqCst) == 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_streams_side_by_side() {
    const STREAMS: usize = 100;
    let world = World::with(2, |config| config.queue = 200).await;
    let answer: Vec<u32> = world.turn(&"streams of words, ".repeat(10));
    world.play(move |_| Behaviour {
        steps: answer
            .chunks(20)
            .flat_map(|part| {
                [
                    Step::Say(part.to_vec()),
                    Step::Wait(Duration::from_millis(10)),
                ]
            })
            .collect(),
        ..Behaviour::default()
    });
    let world = Arc::new(world);
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..STREAMS {
        let world = Arc::clone(&world);
        tasks.spawn(async move {
            let mut reply = world.chat(json!({"stream": true, "seed": number})).await;
            assert_eq!(reply.status, 200);
            match number % 10 {
                // Leaves in the middle.
                3 => {
                    reply.part().await.unwrap().unwrap();
                    false
                }
                // Reads nothing for a while.
                7 => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    reply.events().await.1
                }
                _ => {
                    let (events, done) = reply.events().await;
                    let text: String = events
                        .iter()
                        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
                        .collect();
                    assert_eq!(text, "streams of words, ".repeat(10));
                    done
                }
            }
        });
    }
    let mut complete = 0;
    while let Some(done) = tasks.join_next().await {
        complete += usize::from(done.unwrap());
    }
    assert_eq!(complete, STREAMS * 9 / 10);
    let most: usize = world
        .operators
        .iter()
        .map(|one| one.most_running.load(Ordering::SeqCst))
        .sum();
    println!(
        "{STREAMS} streams in {:?}, up to {most} at once",
        start.elapsed()
    );
    assert!(most > 8);
    assert!(start.elapsed() < Duration::from_secs(30));
    // Every place in the queue was given back.
    until("the queue is empty", || {
        world
            .operators
            .iter()
            .all(|one| one.running.load(Ordering::SeqCst) == 0)
    })
    .await;
    let health = world.get("/../health").await;
    if health.status == 200 {
        assert_eq!(health.body["waiting"], 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_let_go() {
    let world = World::with(1, |config| {
        config.stall = Duration::from_millis(300);
        config.ping = Duration::from_millis(100);
    })
    .await;
    let bias: serde_json::Map<String, serde_json::Value> = serde_json::Map::new();
    world.steps(vec![Step::Babble(65, Duration::from_micros(100))]);
    // Long events: probabilities of twenty alternatives.
    let fields = json!({"stream": true, "logprobs": true, "top_logprobs": 20, "n": 16, "logit_bias": bias, "max_tokens": 500});
    let reply = world.chat(fields).await;
    assert_eq!(reply.status, 200);
    let operator = world.operator();
    until("all answers end one way or the other", || {
        operator.running.load(Ordering::SeqCst) == 0
            && operator.cancelled.load(Ordering::SeqCst) + operator.finished.load(Ordering::SeqCst)
                == 16
    })
    .await;
    drop(reply);
    world.say("next");
    assert_eq!(world.chat(json!({})).await.whole().await.status, 200);
}
