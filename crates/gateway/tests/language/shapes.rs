//! What tokens become: stop strings, probabilities, tool calls, constrained answers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::{MODEL, Step, World, until};

fn weather() -> Value {
    json!([{"type": "function", "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }}])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_string_cuts_the_text_and_the_receipt_covers_the_tokens() {
    let world = World::start().await;
    let steps = vec![
        Step::Say(world.ids("one, tw")),
        Step::Say(world.ids("o, three")),
        Step::Babble(65, Duration::from_millis(5)),
    ];
    world.steps(steps);
    for stop in [json!("two"), json!(["zzz", "two"])] {
        let reply = world.chat(json!({"stop": stop})).await.whole().await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert_eq!(reply.body["choices"][0]["message"]["content"], "one, ");
        assert_eq!(reply.body["choices"][0]["finish_reason"], "stop");
        let tokens = reply.body["usage"]["completion_tokens"].as_u64().unwrap();
        assert!((8..400).contains(&tokens), "{tokens}");
    }
    assert_eq!(world.operator().stopped.load(Ordering::SeqCst), 2);
    let (events, done) = world
        .chat(json!({"stop": "two", "stream": true, "logprobs": true}))
        .await
        .events()
        .await;
    assert!(done);
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "one, ");
    let tokens: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .map(|one| one["token"].as_str().unwrap())
        .collect();
    assert_eq!(tokens, "one, ");
    until("nothing runs", || {
        world.operator().running.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probabilities_stand_beside_their_tokens() {
    let world = World::start().await;
    world.say("é!");
    let reply = world
        .chat(json!({"logprobs": true, "top_logprobs": 2}))
        .await
        .whole()
        .await;
    let content = reply.body["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert_eq!(content.len(), 3);
    let bytes: Vec<u64> = content
        .iter()
        .flat_map(|one| one["bytes"].as_array().unwrap())
        .map(|byte| byte.as_u64().unwrap())
        .collect();
    assert_eq!(bytes, "é!".bytes().map(u64::from).collect::<Vec<_>>());
    assert_eq!(content[2]["token"], "!");
    assert_eq!(content[2]["logprob"], -0.25);
    assert_eq!(content[2]["top_logprobs"].as_array().unwrap().len(), 2);
    let body = json!({"model": MODEL, "prompt": "x", "logprobs": 1});
    let reply = world.post("/completions", body).await.whole().await;
    let logprobs = &reply.body["choices"][0]["logprobs"];
    assert_eq!(logprobs["token_logprobs"].as_array().unwrap().len(), 3);
    assert_eq!(logprobs["tokens"][2], "!");
}

#[tokio::test(flavor = "multi_thread")]
async fn tool_calls_are_told_apart_and_streamed() {
    let world = World::start().await;
    let call =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>";
    world.say(&format!("Let me see.\n{call}\n{call}"));
    let reply = world.chat(json!({"tools": weather()})).await.whole().await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let message = &reply.body["choices"][0]["message"];
    assert_eq!(message["content"], "Let me see.");
    let calls = message["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0]["function"]["name"], "weather");
    let arguments: Value =
        serde_json::from_str(calls[0]["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"city": "Paris"}));
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    assert_eq!(reply.body["choices"][0]["finish_reason"], "tool_calls");
    let prompt = world.language.tokenizer().decode(&world.last().prompt());
    assert!(prompt.contains("Weather of a city"), "{prompt}");

    let fields = json!({"tools": weather(), "stream": true, "parallel_tool_calls": false});
    let (events, done) = world.chat(fields).await.events().await;
    assert!(done);
    let parts: Vec<&Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["tool_calls"].get(0))
        .collect();
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[0]["type"], "function");
    assert_eq!(parts[0]["function"]["name"], "weather");
    assert!(
        parts[1]["function"]["arguments"]
            .as_str()
            .unwrap()
            .contains("Paris")
    );
    assert_eq!(
        events.last().unwrap()["choices"][0]["finish_reason"],
        "tool_calls"
    );

    // Without tools it is text.
    let reply = world
        .chat(json!({"tools": weather(), "tool_choice": "none"}))
        .await
        .whole()
        .await;
    assert!(
        reply.body["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .contains("<tool_call>")
    );
    assert!(
        !world
            .language
            .tokenizer()
            .decode(&world.last().prompt())
            .contains("weather")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_hold_function_calls() {
    let world = World::start().await;
    world.say(
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>",
    );
    let tool = json!([{"type": "function", "name": "weather", "parameters": {"type": "object"}}]);
    let input = json!([
        {"role": "user", "content": "Weather?"},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
        {"role": "user", "content": "And in Oslo?"},
    ]);
    let body = json!({"model": MODEL, "input": input, "tools": tool});
    let reply = world.post("/responses", body.clone()).await.whole().await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let item = &reply.body["output"][0];
    assert_eq!(
        (&item["type"], &item["name"]),
        (&json!("function_call"), &json!("weather"))
    );
    assert!(item["arguments"].as_str().unwrap().contains("Oslo"));
    let mut streamed = body;
    streamed["stream"] = json!(true);
    let (events, _) =
        super::client::read_events(&world.post("/responses", streamed).await.text().await);
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds[2..],
        [
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
}

fn answer(world: &World, text: &str) {
    let (ids, language) = (world.turn(text), world.language.clone());
    world.play(move |asked| World::constrained(&language, asked, ids.clone()));
}

fn city_schema() -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "city", "strict": true, "schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["city", "people"],
        "additionalProperties": false,
    }}})
}

#[tokio::test(flavor = "multi_thread")]
async fn constrained_answers_obey_their_grammar() {
    let world = World::start().await;
    let text = r#"{"city": "Rome", "people": 3}"#;
    answer(&world, text);
    for format in [json!({"type": "json_object"}), city_schema()] {
        let reply = world
            .chat(json!({"response_format": format}))
            .await
            .whole()
            .await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert_eq!(reply.body["choices"][0]["message"]["content"], text);
        let receipt = reply.headers["assay-receipt"].to_str().unwrap();
        let kept = world.get(&format!("/receipts/{receipt}")).await;
        let grammar = kept.body["bundle"]["grammar"].as_str().unwrap();
        assert_eq!(grammar, world.last().grammar.unwrap().to_string());
    }
    let body = json!({"model": MODEL, "input": "x", "stream": true, "text": {"format": {
        "type": "json_schema", "name": "city", "schema": city_schema()["json_schema"]["schema"],
    }}});
    let (events, _) =
        super::client::read_events(&world.post("/responses", body).await.text().await);
    assert_eq!(events.last().unwrap()["type"], "response.completed");

    // A token that the grammar forbids.
    answer(&world, r#"{"city": 5}"#);
    let reply = world
        .chat(json!({"response_format": city_schema()}))
        .await
        .whole()
        .await;
    assert_eq!(reply.status, 503, "{}", reply.body);
    assert!(
        reply.body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("forbidden by the grammar")
    );
    // Masks of another grammar.
    let (ids, masks) = (world.turn("{}"), vec![vec![255u8; 33]; 3]);
    world.play(move |_| super::Behaviour {
        steps: vec![Step::Say(ids.clone())],
        masks: masks.clone(),
        ..super::Behaviour::default()
    });
    let reply = world
        .chat(json!({"response_format": {"type": "json_object"}}))
        .await
        .whole()
        .await;
    assert_eq!(
        (reply.status, reply.body["error"]["code"].as_str()),
        (502, Some("bad_receipt"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_that_cannot_be_are_refused() {
    let world = World::start().await;
    let nothing = json!({"type": "object", "properties": {"a": false}, "required": ["a"]});
    for schema in [nothing, json!({"type": "no such type"})] {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let reply = world
            .chat(json!({"response_format": format}))
            .await
            .whole()
            .await;
        assert_eq!(
            (reply.status, &reply.body["error"]["param"]),
            (400, &json!("response_format")),
            "{}",
            reply.body
        );
    }
    assert!(world.operator().asked.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_call_can_be_demanded() {
    let world = World::start().await;
    answer(
        &world,
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>",
    );
    for choice in [
        json!("required"),
        json!({"type": "function", "function": {"name": "weather"}}),
    ] {
        let fields =
            json!({"tools": weather(), "tool_choice": choice, "parallel_tool_calls": false});
        let reply = world.chat(fields).await.whole().await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        let call = &reply.body["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(call["name"], "weather");
        assert!(reply.body["choices"][0]["message"]["content"].is_null());
    }
}
