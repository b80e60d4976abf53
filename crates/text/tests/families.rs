//! Token ids and rendered conversations of real models.
//!
//! `data/<pre>.json` holds a model's chat template, the part of its vocabulary that the texts can reach (a merge whose result is no
//! substring of a text never applies), ids of texts as llama.cpp gives them (npm node-llama-cpp 3.22.1, special tokens on),
//! and conversations as Jinja2 renders them in the environment of `transformers`.

use assay_text::{
    ChatTemplate, Message, RenderOptions, Role, TemplateTokens, Tokenizer, Tool, ToolCall,
    plain_text,
};
use serde_json::Value;

fn family(pre: &str) -> (Value, Tokenizer, ChatTemplate) {
    let path = format!("{}/tests/data/{pre}.json", env!("CARGO_MANIFEST_DIR"));
    let data: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let tokenizer = Tokenizer::from_json(data["tokenizer"].to_string().as_bytes()).unwrap();
    let tokens = TemplateTokens {
        eos: "<|im_end|>".to_owned(),
        ..TemplateTokens::default()
    };
    let template =
        ChatTemplate::new(data["template"].as_str().unwrap(), &tokenizer, tokens).unwrap();
    (data, tokenizer, template)
}

fn message(value: &Value) -> Message {
    let mut message = Message::new(
        value["role"].as_str().unwrap().parse::<Role>().unwrap(),
        value["content"].as_str().unwrap(),
    );
    for call in value["tool_calls"].as_array().into_iter().flatten() {
        message.tool_calls.push(ToolCall {
            id: call["id"].as_str().unwrap().to_owned(),
            name: call["function"]["name"].as_str().unwrap().to_owned(),
            arguments: call["function"]["arguments"].to_string(),
        });
    }
    message
}

#[test]
fn ids_are_those_of_llama_cpp() {
    for pre in ["smollm", "qwen2"] {
        let (data, tokenizer, _) = family(pre);
        let cases = data["cases"].as_array().unwrap();
        assert!(cases.len() >= 60);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(
                tokenizer.encode_trusted(text).unwrap(),
                ids,
                "{pre} {text:?}"
            );
            if pre == "qwen2" {
                assert_eq!(tokenizer.decode_with_control(&ids), text);
            }
        }
    }
}

#[test]
fn conversations_read_as_in_jinja2() {
    for (pre, count) in [("smollm", 16), ("qwen2", 20)] {
        let (data, tokenizer, template) = family(pre);
        let conversations = data["conversations"].as_array().unwrap();
        assert_eq!(conversations.len(), count);
        for case in conversations {
            let messages: Vec<Message> = case["messages"]
                .as_array()
                .unwrap()
                .iter()
                .map(message)
                .collect();
            let tools: Vec<Tool> = case["tools"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|tool| Tool {
                    name: tool["function"]["name"].as_str().unwrap().to_owned(),
                    description: tool["function"]["description"].as_str().map(str::to_owned),
                    parameters: tool["function"]["parameters"].clone(),
                })
                .collect();
            let options = RenderOptions {
                generation_prompt: case["generation_prompt"].as_bool().unwrap(),
                ..RenderOptions::default()
            };
            let segments = template.render(&messages, &tools, &options).unwrap();
            let text = plain_text(&segments);
            assert_eq!(text, case["text"].as_str().unwrap(), "{pre}");
            let control = text.matches("<|im_start|>").count() + text.matches("<|im_end|>").count();
            let ids = tokenizer.encode_prompt(&segments).unwrap();
            assert_eq!(
                ids.iter().filter(|&&id| tokenizer.is_control(id)).count(),
                control
            );
            // no message looks like a token here, so the ids are those of the whole text
            assert_eq!(ids, tokenizer.encode_trusted(&text).unwrap(), "{pre}");
        }
    }
}
