//! What each endpoint answers.

use assay_graph::sampling::ONE;
use serde_json::{Value, json};

use super::{Behaviour, Step, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_answered_with_its_receipt() {
    let world = World::start().await;
    let reply = world.chat(json!({"seed": 42, "temperature": 0.5, "user": "u", "metadata": {"a": "b"}, "store": true, "unknown": 1})).await.whole().await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let body = &reply.body;
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "echo");
    assert_eq!(body["system_fingerprint"], "fp_abababababababab");
    assert_eq!(body["choices"][0]["message"]["content"], "Hello!");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert!(body["choices"][0]["logprobs"].is_null());
    let asked = world.last();
    let text = world
        .language
        .tokenizer()
        .decode_with_control(&asked.prompt());
    assert_eq!(
        text,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(body["usage"]["prompt_tokens"], asked.prompt().len());
    assert_eq!(body["usage"]["completion_tokens"], 7);
    assert_eq!(body["usage"]["cost"], 0.002);
    let statement = asked.statement();
    assert_eq!(statement.temperature, ONE / 2);
    assert_eq!(statement.stop, world.language.stop());
    // The rest of the context: the last token needs no position.
    assert_eq!(statement.max_out, 2_049 - asked.prompt().len() as u32);
    let mut hasher = blake3::Hasher::new_derive_key("assay seed v1");
    hasher.update(&42i128.to_le_bytes());
    hasher.update(&0u32.to_le_bytes());
    assert_eq!(statement.seed, *hasher.finalize().as_bytes());
    let receipt = reply.headers["assay-receipt"].to_str().unwrap();
    assert_eq!(body["assay"]["receipts"], json!([receipt]));
    assert_eq!(body["assay"]["seed"], 42);
    assert_eq!(body["assay"]["fee"], "0.002000");
    assert_eq!(reply.headers["assay-fee"], "0.002000");
    let kept = world.get(&format!("/receipts/{receipt}")).await;
    assert_eq!(kept.status, 200, "{}", kept.body);
    let facts = kept.body["report"]["facts"].as_array().unwrap();
    for name in ["request", "input", "output", "sampling"] {
        let fact = facts.iter().find(|fact| fact["name"] == name).unwrap();
        assert_eq!(fact["status"], "shown", "{fact}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_streams() {
    let world = World::start().await;
    world.say("Grüße, 世界!");
    for include in [false, true] {
        let reply = world
            .chat(json!({"stream": true, "stream_options": {"include_usage": include}}))
            .await;
        assert_eq!(reply.status, 200);
        assert!(
            reply.headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/event-stream")
        );
        let (events, done) = reply.events().await;
        assert!(done);
        assert_eq!(events[0]["object"], "chat.completion.chunk");
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        assert!(events.iter().all(|event| event["id"] == events[0]["id"]));
        assert_eq!(text_of(&events), "Grüße, 世界!");
        // Characters come whole, one by one.
        assert!(events.len() > 10);
        let last = events.last().unwrap();
        assert_eq!(last["assay"]["receipts"].as_array().unwrap().len(), 1);
        assert!(last["assay"]["seed"].is_u64());
        let ends: Vec<&Value> = events
            .iter()
            .filter(|event| event["choices"][0]["finish_reason"] == "stop")
            .collect();
        assert_eq!(ends.len(), 1);
        if include {
            assert_eq!(last["choices"], json!([]));
            assert_eq!(
                last["usage"]["completion_tokens"],
                world.turn("Grüße, 世界!").len()
            );
            assert!(
                events[..events.len() - 1]
                    .iter()
                    .all(|event| event["usage"].is_null())
            );
        } else {
            assert_eq!(ends[0], last);
            assert!(last.get("usage").is_none());
        }
    }
}

fn text_of(events: &[Value]) -> String {
    events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_seeds_give_equal_statements_and_choices_have_seeds_of_their_own() {
    let world = World::start().await;
    let statements = |world: &World| -> Vec<Vec<u8>> {
        let mut asked = world.operator().asked.lock();
        let mut all: Vec<Vec<u8>> = asked.drain(..).map(|one| one.sampling.to_vec()).collect();
        all.sort();
        all
    };
    let drawn = world.chat(json!({"n": 3})).await.whole().await;
    let seed = drawn.body["assay"]["seed"].clone();
    assert_eq!(drawn.body["choices"].as_array().unwrap().len(), 3);
    assert_eq!(drawn.body["assay"]["receipts"].as_array().unwrap().len(), 3);
    assert_eq!(drawn.body["assay"]["fee"], "0.006000");
    assert_eq!(drawn.body["usage"]["completion_tokens"], 21);
    let first = statements(&world);
    world
        .chat(json!({"n": 3, "seed": seed}))
        .await
        .whole()
        .await;
    let second = statements(&world);
    assert_eq!(first, second);
    assert_eq!(
        first
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        3
    );
    let streamed = world.chat(json!({"n": 2, "stream": true})).await;
    let (events, done) = streamed.events().await;
    assert!(done);
    for index in 0..2 {
        let text: String = events
            .iter()
            .filter(|event| event["choices"][0]["index"] == index)
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, "Hello!");
    }
    assert_eq!(
        events.last().unwrap()["assay"]["receipts"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_go_on_from_prompts() {
    let world = World::start().await;
    let ids = world.ids("abc");
    let body = json!({"model": "echo", "prompt": ["one", "two"], "n": 2, "echo": true, "max_tokens": 5, "seed": -1});
    let reply = world.post("/completions", body).await.whole().await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.body["object"], "text_completion");
    let texts: Vec<&str> = reply.body["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["oneHello", "oneHello", "twoHello", "twoHello"]);
    assert_eq!(reply.body["choices"][0]["finish_reason"], "length");
    assert_eq!(
        reply.body["usage"],
        json!({"prompt_tokens": 6, "completion_tokens": 20, "total_tokens": 26, "cost": 0.008})
    );
    assert_eq!(reply.body["assay"]["seed"], -1);
    let body = json!({"model": "echo", "prompt": ids, "logprobs": 2, "stream": true, "stream_options": {"include_usage": true}});
    let (events, done) = world.post("/completions", body).await.events().await;
    assert!(done);
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(text, "Hello!");
    let offsets: Vec<u64> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["text_offset"][0].as_u64())
        .collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 5]);
    assert_eq!(events.last().unwrap()["usage"]["prompt_tokens"], 3);
    assert_eq!(world.last().logprobs, Some(2));
    assert_eq!(world.last().statement().max_out, 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_are_answered_and_streamed() {
    let world = World::start().await;
    let body = json!({
        "model": "echo", "instructions": "be brief", "max_output_tokens": 50, "top_logprobs": 1,
        "input": [
            {"role": "user", "content": "a"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "c"}]},
        ],
    });
    let reply = world.post("/responses", body.clone()).await.whole().await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.body["object"], "response");
    assert_eq!(reply.body["status"], "completed");
    let part = &reply.body["output"][0]["content"][0];
    assert_eq!(
        (&part["type"], &part["text"]),
        (&json!("output_text"), &json!("Hello!"))
    );
    assert_eq!(part["logprobs"].as_array().unwrap().len(), 6);
    assert_eq!(reply.body["usage"]["output_tokens"], 7);
    assert_eq!(reply.body["assay"]["receipts"].as_array().unwrap().len(), 1);
    let text = world
        .language
        .tokenizer()
        .decode_with_control(&world.last().prompt());
    assert!(text.starts_with("<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb"), "{text}");

    let mut streamed = body;
    streamed["stream"] = json!(true);
    streamed["max_output_tokens"] = json!(3);
    let text = world.post("/responses", streamed).await.text().await;
    assert!(!text.contains("[DONE]"));
    let (events, _) = super::client::read_events(&text);
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
        assert!(text.contains(&format!("event: {}\n", event["type"].as_str().unwrap())));
    }
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.incomplete",
        ]
    );
    let last = &events.last().unwrap()["response"];
    assert_eq!(last["output"][0]["content"][0]["text"], "Hel");
    assert_eq!(last["incomplete_details"]["reason"], "max_output_tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_with_price_context_and_evidence() {
    let world = World::start().await;
    let reply = world.get("/models").await;
    let model = &reply.body["data"][0];
    assert_eq!(model["id"], "echo");
    let assay = &model["assay"];
    assert_eq!(assay["kind"], "language");
    assert_eq!(assay["context_length"], 2_048);
    assert_eq!(assay["price"], "0.002000");
    assert_eq!(assay["tiers"], json!(["optimistic"]));
    assert!(assay["model_id"].as_str().unwrap().starts_with("0xabab"));
}

#[tokio::test(flavor = "multi_thread")]
async fn comments_come_while_a_long_prompt_is_read() {
    let world = World::with(1, |config| {
        config.ping = std::time::Duration::from_millis(50)
    })
    .await;
    let mut steps = vec![
        Step::Wait(std::time::Duration::from_millis(400)),
        Step::Ping,
    ];
    steps.push(Step::Say(world.turn("late")));
    world.play(move |_| Behaviour {
        steps: steps.clone(),
        ..Behaviour::default()
    });
    let text = world.chat(json!({"stream": true})).await.text().await;
    let pings = text.matches(": ping\n\n").count();
    assert!((4..=9).contains(&pings), "{pings} pings");
    let (events, done) = super::client::read_events(&text);
    assert!(done);
    assert_eq!(text_of(&events), "late");
}
