//! Grammars and their masks.

use assay_text::{
    Constrainer, Constraint, Grammar, TextError, Tokenizer, Tool, ToolEvent, ToolFormat,
    ToolParser, Vocabulary,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const STOP: u32 = 259;

fn tokenizer() -> Tokenizer {
    let mut vocabulary = Vocabulary::bytes("qwen2");
    vocabulary
        .push_merge("{", "\"")
        .push_merge("t", "r")
        .push_control("<|im_start|>")
        .push_control("<|im_end|>");
    Tokenizer::from_vocabulary(&vocabulary).unwrap()
}

fn constrainer() -> Constrainer {
    // eleven more ids than tokens, as padded models have
    Constrainer::new(&tokenizer(), 271, &[STOP]).unwrap()
}

fn allowed(mask: &[u8]) -> Vec<u32> {
    (0..271)
        .filter(|&id| mask[id as usize / 8] >> (id % 8) & 1 == 1)
        .collect()
}

/// Feeds a text token by token, as a model that follows the masks would.
fn feed(constraint: &mut Constraint, text: &str) -> Result<(), TextError> {
    for id in tokenizer().encode(text).unwrap() {
        let mask = constraint.mask()?;
        assert_eq!(mask.len(), 34);
        let permitted = allowed(&mask).contains(&id);
        let accepted = constraint.accept(id);
        assert_eq!(
            permitted,
            accepted.is_ok(),
            "mask and acceptance agree about {id}"
        );
        accepted?;
    }
    Ok(())
}

#[test]
fn json_objects() {
    for text in [
        "{}",
        "{\"a\":1}",
        "{\n \"a\": [true, null, \"é\\n\", {\"b\": -1.5e3}]\n}",
    ] {
        let mut constraint = constrainer().constrain(&Grammar::json_object()).unwrap();
        feed(&mut constraint, text).unwrap();
        assert!(constraint.is_complete());
        assert!(allowed(&constraint.mask().unwrap()).contains(&STOP));
        constraint.accept(STOP).unwrap();
        assert!(constraint.is_done());
        assert_eq!(allowed(&constraint.mask().unwrap()), [STOP]);
        assert!(constraint.accept(65).is_err());
    }
    for text in ["[", "x", "{a", "{\"a\" 1", "{}{"] {
        let mut constraint = constrainer().constrain(&Grammar::json_object()).unwrap();
        assert!(
            matches!(
                feed(&mut constraint, text),
                Err(TextError::Forbidden { .. })
            ),
            "{text}"
        );
    }
    let mut constraint = constrainer().constrain(&Grammar::json_object()).unwrap();
    assert!(matches!(
        constraint.accept(STOP),
        Err(TextError::Forbidden { position: 0, .. })
    ));
    let endless = format!("{{{}", " ".repeat(100));
    let mut constraint = constrainer().constrain(&Grammar::json_object()).unwrap();
    assert!(
        feed(&mut constraint, &endless).is_err(),
        "white space is bounded"
    );
}

#[test]
fn schemas_hold_and_the_end_is_forced() {
    let schema = json!({
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer", "minimum": 0, "maximum": 12}, "s": {"enum": ["ab", "ac"]}},
        "required": ["ok", "n", "s"], "additionalProperties": false,
    });
    let grammar = Grammar::json_schema(&schema).unwrap();
    let mut constraint = constrainer().constrain(&grammar).unwrap();
    feed(&mut constraint, "{\"ok\": true, \"n\": 12, \"s\": \"a").unwrap();
    assert_eq!(
        allowed(&constraint.mask().unwrap()),
        [u32::from(b'b'), u32::from(b'c')]
    );
    feed(&mut constraint, "b\"}").unwrap();
    assert_eq!(allowed(&constraint.mask().unwrap()), [STOP]);
    for text in [
        "{\"n\"",
        "{\"ok\": 1",
        "{\"ok\": true, \"n\": 13",
        "{\"ok\": true, \"n\": 1, \"s\": \"x",
    ] {
        let mut constraint = constrainer().constrain(&grammar).unwrap();
        assert!(feed(&mut constraint, text).is_err(), "{text}");
    }
}

#[test]
fn greedy_and_contrary_models_end_within_the_grammar() {
    // whichever permitted token is taken, the answer parses
    let schema = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 3}, "b": {"anyOf": [{"type": "null"}, {"type": "boolean"}]}}, "required": ["a", "b"], "additionalProperties": false});
    let constrainer = constrainer();
    for seed in 0u32..40 {
        let mut constraint = constrainer
            .constrain(&Grammar::json_schema(&schema).unwrap())
            .unwrap();
        let (mut state, mut ids) = (seed.wrapping_mul(2_654_435_761).wrapping_add(1), Vec::new());
        while !constraint.is_done() && ids.len() < 2000 {
            let options = allowed(&constraint.mask().unwrap());
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let id = options[(state >> 8) as usize % options.len()];
            constraint.accept(id).unwrap();
            ids.push(id);
        }
        assert!(constraint.is_complete());
        let text = tokenizer().decode(&ids);
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(value["a"].is_array() && value.as_object().unwrap().len() == 2);
    }
}

#[test]
fn impossible_and_malformed_grammars_are_errors() {
    let build = |schema: Value| {
        Grammar::json_schema(&schema)
            .and_then(|grammar| constrainer().constrain(&grammar))
            .map(|_| ())
    };
    for schema in [
        json!(false),
        json!({"enum": []}),
        json!({"type": "string", "minLength": 5, "maxLength": 2}),
        json!({"type": "integer", "minimum": 3, "maximum": 2}),
    ] {
        assert!(
            matches!(
                build(schema.clone()),
                Err(TextError::Unsatisfiable { .. } | TextError::Grammar { .. })
            ),
            "{schema}"
        );
    }
    for schema in [
        json!({"type": "nonsense"}),
        json!({"$ref": "#/nowhere"}),
        json!({"$ref": "https://example.org/schema"}),
        json!({"type": "string", "pattern": "((("}),
        json!([]),
        json!("x"),
        json!({"allOf": [{"$ref": "#/nowhere"}]}),
    ] {
        assert!(build(schema.clone()).is_err(), "{schema}");
    }
    let mut deep = json!({});
    for _ in 0..100 {
        deep = json!({"not": deep});
    }
    assert!(matches!(build(deep), Err(TextError::Limit { .. })));
    assert!(matches!(
        build(json!({"description": "x".repeat(300_000)})),
        Err(TextError::Limit { .. })
    ));
    assert!(
        constrainer()
            .constrain(&Grammar::lark("start: nothing".to_owned()).unwrap())
            .is_err()
    );
    assert!(matches!(
        Constrainer::new(&tokenizer(), 100, &[5]),
        Err(TextError::TokenId { .. })
    ));
    assert!(matches!(
        Constrainer::new(&tokenizer(), 271, &[271]),
        Err(TextError::TokenId { id: 271, .. })
    ));
    assert!(Constrainer::new(&tokenizer(), 271, &[]).is_err());
}

#[test]
fn costly_grammars_are_bounded() {
    let started = std::time::Instant::now();
    for schema in [
        json!({"type": "string", "pattern": "(a{1000}){1000}{1000}"}),
        json!({"type": "string", "pattern": "(a*b?){500}c"}),
        json!({"type": "string", "pattern": "^(.*a.{30}|.*b.{31}|.*c.{32})$"}),
        json!({"type": "string", "maxLength": 1_000_000_000}),
        json!({"type": "array", "maxItems": 1_000_000_000}),
        json!({"allOf": (0..200).map(|n| json!({"pattern": format!(".*{n}.*")})).collect::<Vec<_>>(), "type": "string"}),
        json!({"anyOf": (0..2000).map(|n| json!({"properties": {format!("k{n}"): {"type": "integer"}}})).collect::<Vec<_>>()}),
        json!({"type": "object", "properties": (0..3000).map(|n| (format!("k{n}"), json!({"type": ["integer", "string"]}))).collect::<serde_json::Map<_, _>>()}),
    ] {
        let Ok(mut constraint) =
            Grammar::json_schema(&schema).and_then(|grammar| constrainer().constrain(&grammar))
        else {
            continue;
        };
        for _ in 0..20 {
            let Ok(mask) = constraint.mask() else { break };
            let id = allowed(&mask)
                .into_iter()
                .find(|id| *id != STOP)
                .unwrap_or(STOP);
            constraint.accept(id).unwrap();
        }
    }
    println!("eight costly schemas in {:?}", started.elapsed());
    assert!(started.elapsed().as_secs() < 60);
}

#[test]
fn grammar_bytes_are_canonical() {
    let schema = Grammar::json_schema(&json!({"type": "object", "b": 1, "a": 2})).unwrap();
    assert_eq!(
        schema.to_bytes(),
        b"\x01\x01{\"type\":\"object\",\"b\":1,\"a\":2}"
    );
    assert_eq!(Grammar::json_object().to_bytes(), [1, 0]);
    for grammar in [
        schema,
        Grammar::json_object(),
        Grammar::lark("start: \"x\"".to_owned()).unwrap(),
    ] {
        assert_eq!(Grammar::from_bytes(&grammar.to_bytes()).unwrap(), grammar);
    }
    for bytes in [
        &b""[..],
        b"\x01",
        b"\x02\x00",
        b"\x01\x03",
        b"\x01\x00x",
        b"\x01\x01{ }",
        b"\x01\x01{\"a\":1,\"a\":1}",
        b"\x01\x01[",
        b"\x01\x02\xff",
    ] {
        assert!(Grammar::from_bytes(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn demanded_tool_calls() {
    let tools = [
        Tool {
            name: "add".to_owned(),
            description: None,
            parameters: json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "required": ["a"], "additionalProperties": false, "$defs": {"n": {"type": "integer"}}}),
        },
        Tool {
            name: "now".to_owned(),
            description: None,
            parameters: Value::Null,
        },
    ];
    let call = "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 5}}\n</tool_call>";
    let mut constraint = constrainer()
        .constrain(&Grammar::tool_calls(&tools, false).unwrap())
        .unwrap();
    feed(&mut constraint, call).unwrap();
    assert_eq!(allowed(&constraint.mask().unwrap()), [STOP]);
    let mut constraint = constrainer()
        .constrain(&Grammar::tool_calls(&tools, true).unwrap())
        .unwrap();
    let calls =
        format!("{call}\n<tool_call>\n{{\"name\": \"now\", \"arguments\": {{}}}}\n</tool_call>");
    feed(&mut constraint, &calls).unwrap();
    assert!(constraint.is_complete());
    let mut parser = ToolParser::new(ToolFormat::Tagged);
    assert_eq!(
        parser.push(&calls),
        [
            ToolEvent::Call {
                name: "add".to_owned(),
                arguments: "{\"a\":5}".to_owned()
            },
            ToolEvent::Call {
                name: "now".to_owned(),
                arguments: "{}".to_owned()
            },
        ]
    );
    for text in [
        "no",
        "<tool_call>\n{\"name\": \"sub\"",
        "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": \"x\"",
    ] {
        let mut constraint = constrainer()
            .constrain(&Grammar::tool_calls(&tools, false).unwrap())
            .unwrap();
        assert!(feed(&mut constraint, text).is_err(), "{text}");
    }
    assert!(Grammar::tool_calls(&[], false).is_err());
}

fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string", "pattern": "^a+$"})),
        Just(json!({"type": "number"})),
        Just(json!({"const": {"x": [1, "é"]}})),
        Just(json!({"$ref": "#"})),
        Just(json!(true)),
        Just(json!({"type": 5})),
        any::<i64>().prop_map(|n| json!({"minimum": n})),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|list| json!({"anyOf": list})),
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|list| json!({"allOf": list})),
            inner
                .clone()
                .prop_map(|item| json!({"type": "array", "items": item, "minItems": 2})),
            proptest::collection::btree_map("[a-c$]{1,4}", inner, 0..4)
                .prop_map(|map| json!({"type": "object", "properties": map, "required": ["a"]})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn hostile_schemas_never_panic(schema in any_schema()) {
        let constrainer = CONSTRAINER.with(Clone::clone);
        if let Ok(mut constraint) = Grammar::json_schema(&schema).and_then(|grammar| constrainer.constrain(&grammar)) {
            for _ in 0..8 {
                let Ok(mask) = constraint.mask() else { break };
                let Some(&id) = allowed(&mask).last() else { panic!("empty mask") };
                constraint.accept(id).unwrap();
            }
        }
    }
}

thread_local! {
    static CONSTRAINER: Constrainer = constrainer();
}
