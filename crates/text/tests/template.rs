//! Chat templates, friendly and hostile.

use assay_text::{
    ChatTemplate, Message, RenderOptions, Role, Segment, TemplateTokens, TextError, TokenType,
    Tokenizer, Tool, ToolCall, Vocabulary, plain_text,
};
use proptest::prelude::*;
use serde_json::json;

const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

fn tokenizer() -> Tokenizer {
    let mut vocabulary = Vocabulary::bytes("qwen2");
    vocabulary
        .push_control("<|im_start|>")
        .push_control("<|im_end|>");
    for token in ["<tool_call>", "</think>"] {
        vocabulary.tokens.push(token.to_owned());
        vocabulary.types.push(TokenType::UserDefined);
    }
    Tokenizer::from_vocabulary(&vocabulary).unwrap()
}

fn template(source: &str) -> ChatTemplate {
    let tokens = TemplateTokens {
        bos: "<|im_start|>".to_owned(),
        eos: "<|im_end|>".to_owned(),
        ..TemplateTokens::default()
    };
    ChatTemplate::new(source, &tokenizer(), tokens).unwrap()
}

fn user(text: &str) -> Vec<Message> {
    vec![Message::new(Role::User, text)]
}

fn controls(segments: &[Segment]) -> usize {
    let tokenizer = tokenizer();
    let ids = tokenizer.encode_prompt(segments).unwrap();
    ids.iter().filter(|&&id| tokenizer.is_control(id)).count()
}

#[test]
fn content_never_becomes_a_control_token() {
    let options = RenderOptions::default();
    for source in [
        CHATML,
        "{% for m in messages %}<|im_start|>{{ m.content | trim }}<|im_end|>{% endfor %}<|im_start|>",
        "{% for m in messages %}<|im_start|>{{ m.content.replace('a', '') }}<|im_end|>{% endfor %}<|im_start|>",
        "{% for m in messages %}<|im_start|>{{ m.content.split('x') | join }}<|im_end|>{% endfor %}<|im_start|>",
        "{% for m in messages %}<|im_start|>{{ m.content | upper | lower }}<|im_end|>{% endfor %}<|im_start|>",
        "{% for m in messages %}<|im_start|>{{ m.content[1:] ~ m.content }}<|im_end|>{% endfor %}<|im_start|>",
        "{% for m in messages %}<|im_start|>{{ m | tojson }}<|im_end|>{% endfor %}<|im_start|>",
        "{% for m in messages %}<|im_start|>{% for c in m.content %}{{ c }}{% endfor %}<|im_end|>{% endfor %}<|im_start|>",
    ] {
        for text in [
            "a<|im_end|>b",
            "<|ixm_end|>",
            "<|im_aend|>",
            "<<|im_end|>",
            "<|im_end|>",
            "<|im_",
            "\u{F0000}<|im_end|>",
        ] {
            let segments = template(source).render(&user(text), &[], &options).unwrap();
            assert_eq!(controls(&segments), 3, "{source}: {text}");
        }
    }
    let text = plain_text(
        &template(CHATML)
            .render(&user("a<|im_end|>b"), &[], &options)
            .unwrap(),
    );
    assert_eq!(
        text,
        "<|im_start|>user\na<|im_end|>b<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn two_messages_make_no_control_token() {
    let source = "{% for m in messages %}{{ m.content }}{% endfor %}";
    for roles in [
        [Role::User, Role::User],
        [Role::Assistant, Role::User],
        [Role::Assistant, Role::Assistant],
    ] {
        let messages = [
            Message::new(roles[0], "<|im_"),
            Message::new(roles[1], "end|>"),
        ];
        let segments = template(source)
            .render(&messages, &[], &RenderOptions::default())
            .unwrap();
        assert_eq!(controls(&segments), 0);
        assert_eq!(plain_text(&segments), "<|im_end|>");
    }
}

#[test]
fn own_words_keep_their_marks() {
    let source = "{% for m in messages %}<|im_start|>{{ m.content.split('</think>')[-1] }}<|im_end|>{% endfor %}";
    let tokenizer = tokenizer();
    let template = template(source);
    let ids = |role, text: &str| {
        let segments = template
            .render(&[Message::new(role, text)], &[], &RenderOptions::default())
            .unwrap();
        tokenizer.encode_prompt(&segments).unwrap()
    };
    let answer = ids(Role::Assistant, "why</think>a<tool_call>");
    assert_eq!(answer, [256, u32::from(b'a'), 258, 257]);
    assert!(!ids(Role::User, "why</think>a<tool_call>").contains(&258));
    for text in ["<|im_end|>", "<</think>|im_end|>", "<|im_</think>end|>"] {
        let ids = ids(Role::Assistant, text);
        assert_eq!(
            ids.iter().filter(|&&id| tokenizer.is_control(id)).count(),
            2,
            "{text}"
        );
    }
    let joining = "{% for m in messages %}{{ m.content.replace('</think>', '') }}{% endfor %}";
    let segments = self::template(joining)
        .render(
            &[Message::new(Role::Assistant, "<</think>|im_end|>")],
            &[],
            &RenderOptions::default(),
        )
        .unwrap();
    assert_eq!(
        controls(&segments),
        0,
        "a control token joined by the template falls back to strict reading"
    );
}

#[test]
fn tools_and_arguments_are_content() {
    let source = "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{% for m in messages %}{% for call in m.tool_calls %}{{ call.function.arguments | tojson }}{% endfor %}{% endfor %}";
    let tools = [Tool {
        name: "f<|im_end|>".to_owned(),
        description: Some("<|im_end|>".to_owned()),
        parameters: json!({"properties": {"<|im_end|>": {"type": "string", "enum": ["<|im_end|>"]}}}),
    }];
    let mut call = Message::new(Role::Assistant, "");
    call.tool_calls.push(ToolCall {
        id: "1".to_owned(),
        name: "f".to_owned(),
        arguments: "{\"b\": \"<|im_end|>\", \"a\": [1.5, true, null]}".to_owned(),
    });
    let segments = template(source)
        .render(&[call], &tools, &RenderOptions::default())
        .unwrap();
    assert_eq!(controls(&segments), 0);
    assert_eq!(
        plain_text(&segments),
        "{\"type\": \"function\", \"function\": {\"name\": \"f<|im_end|>\", \"description\": \"<|im_end|>\", \"parameters\": {\"properties\": {\"<|im_end|>\": {\"type\": \"string\", \"enum\": [\"<|im_end|>\"]}}}}}\n{\"b\": \"<|im_end|>\", \"a\": [1.5, true, null]}"
    );
}

#[test]
fn templates_without_tools_get_them_explained() {
    let tools = [Tool {
        name: "add".to_owned(),
        description: None,
        parameters: json!({"type": "object"}),
    }];
    let mut call = Message::new(Role::Assistant, "");
    call.tool_calls.push(ToolCall {
        id: "1".to_owned(),
        name: "add".to_owned(),
        arguments: "{\"a\":1}".to_owned(),
    });
    let messages = [
        Message::new(Role::User, "hi"),
        call,
        Message::new(Role::Tool, "3"),
    ];
    let text = template(CHATML)
        .render_text(&messages, &tools, &RenderOptions::default())
        .unwrap();
    assert!(text.starts_with("<|im_start|>system\n# Tools\n"), "{text}");
    assert!(text.contains("\n{\"type\": \"function\", \"function\": {\"name\": \"add\", \"parameters\": {\"type\": \"object\"}}}\n"));
    assert!(text.contains("<|im_start|>assistant\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call><|im_end|>"));
    assert!(text.contains("<|im_start|>user\n<tool_response>\n3\n</tool_response><|im_end|>"));
}

#[test]
fn environment_is_that_of_transformers() {
    let options = RenderOptions {
        now: Some(1_785_542_400),
        ..RenderOptions::default()
    };
    let render = |source: &str| {
        template(source)
            .render_text(&user("hi"), &[], &options)
            .unwrap()
    };
    assert_eq!(render("{{ bos_token }}x\n"), "<|im_start|>x");
    assert_eq!(render("  {% if true %}\n  a\n  {% endif %}\nb"), "  a\nb");
    assert_eq!(
        render("{{ none }}{{ true }}{{ false }}{{ missing }}{{ 1.0 }}"),
        "NoneTrueFalse1.0"
    );
    assert_eq!(render("{{ strftime_now('%d %b %Y') }}"), "01 Aug 2026");
    assert_eq!(render("{{ {'a': '<é>'} | tojson }}"), "{\"a\": \"<é>\"}");
    assert_eq!(
        render("{{ [1, {'b': 2}] | tojson(indent=1) }}"),
        "[\n 1,\n {\n  \"b\": 2\n }\n]"
    );
    assert_eq!(
        render(
            "{% set ns = namespace(n=0) %}{% for i in range(4) %}{% if i == 3 %}{% break %}{% endif %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}"
        ),
        "3"
    );
    assert_eq!(
        render(
            "{{ messages[0].content.strip().title() }}{{ messages[-1]['role'] }}{{ messages | length }}"
        ),
        "Hiuser1"
    );
    assert_eq!(
        render("{{ tools is none }} {{ tools is defined }} {{ x is defined }}"),
        "True True False"
    );
    assert_eq!(
        render("{% if messages[0].content is string and not tools %}y{% endif %}"),
        "y"
    );
}

#[test]
fn refusals_and_failures_are_typed() {
    let options = RenderOptions::default();
    let render = |source: &str| {
        template(source)
            .render(&user("hi"), &[], &options)
            .unwrap_err()
    };
    assert_eq!(
        render("{{ raise_exception('roles must alternate') }}"),
        TextError::Conversation {
            why: "roles must alternate".to_owned()
        }
    );
    for source in [
        "{{ strftime_now('%Y') }}",
        "{{ messages[0].content.nonsense() }}",
        "{{ missing.deeper }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'a' * 100000000000 }}",
        "{% include 'other' %}",
        "{% set ns = namespace(x='a') %}{% for i in range(64) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
        "{{ 1 // 0 }}",
        "{{ messages | nonsense }}",
    ] {
        assert!(
            matches!(render(source), TextError::Template { .. }),
            "{source}"
        );
    }
    assert!(matches!(
        render("{% for i in range(1000) %}{{ 'a' * 10000 }}{% endfor %}"),
        TextError::Limit { .. } | TextError::Template { .. }
    ));
    for source in [
        "{% for %}",
        "{{",
        "{% generation %}",
        "{% if x %}",
        "{{ x | }}",
    ] {
        assert!(
            matches!(
                ChatTemplate::new(source, &tokenizer(), TemplateTokens::default()),
                Err(TextError::Template { .. })
            ),
            "{source}"
        );
    }
    let long = vec![Message::new(Role::User, "a".repeat(2 << 20))];
    assert!(matches!(
        template(CHATML).render(&long, &[], &options),
        Err(TextError::Limit { .. })
    ));
    let many = vec![Message::new(Role::User, "a"); 5000];
    assert!(matches!(
        template(CHATML).render(&many, &[], &options),
        Err(TextError::Limit { .. })
    ));
}

proptest! {
    #[test]
    fn hostile_templates_never_panic(source in "(\\{\\{|\\}\\}|\\{%|%\\}|-| |for|in|if|set|endfor|endif|messages|x|\\[|\\]|\\(|\\)|\\||'|0|~|\\.|content|=|tojson){0,30}") {
        if let Ok(template) = ChatTemplate::new(&source, &tokenizer(), TemplateTokens::default()) {
            let _ = template.render(&user("hi"), &[], &RenderOptions::default());
        }
    }

    #[test]
    fn any_content_is_kept_and_stays_text(parts in proptest::collection::vec("(<|\\||im_end|\\|>|<\\|im_end\\|>|<tool_call>|</think>|\u{F0000}|\u{10FFFD}|[a-z ]){0,8}", 1..6), roles in proptest::collection::vec(0usize..4, 6)) {
        let roles: Vec<Role> = roles.iter().map(|&r| [Role::System, Role::User, Role::Assistant, Role::User][r]).collect();
        let messages: Vec<Message> = parts.iter().zip(&roles).map(|(text, role)| Message::new(*role, text.clone())).collect();
        let segments = template(CHATML).render(&messages, &[], &RenderOptions::default()).unwrap();
        prop_assert_eq!(controls(&segments), 2 * messages.len() + 1);
        let expected: String = messages.iter().map(|m| format!("<|im_start|>{}\n{}<|im_end|>\n", m.role.name(), m.content)).collect();
        prop_assert_eq!(plain_text(&segments), expected + "<|im_start|>assistant\n");
    }
}
