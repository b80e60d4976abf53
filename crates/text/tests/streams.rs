//! Tool calls and stop strings over streams that are cut anywhere.

use assay_text::{StopMatcher, TextError, ToolEvent, ToolFormat, ToolParser};
use proptest::prelude::*;

fn call(name: &str, arguments: &str) -> ToolEvent {
    ToolEvent::Call {
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    }
}

fn text(text: &str) -> ToolEvent {
    ToolEvent::Text(text.to_owned())
}

/// All events for a text that comes in pieces of `size` characters, neighbouring texts joined.
fn parse(format: ToolFormat, input: &str, size: usize) -> Vec<ToolEvent> {
    let mut parser = ToolParser::new(format);
    let characters: Vec<char> = input.chars().collect();
    let mut events: Vec<ToolEvent> = Vec::new();
    for piece in characters.chunks(size.max(1)) {
        events.extend(parser.push(&piece.iter().collect::<String>()));
    }
    events.extend(parser.finish());
    let mut joined: Vec<ToolEvent> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (Some(ToolEvent::Text(before)), ToolEvent::Text(more)) => before.push_str(&more),
            (_, event) => joined.push(event),
        }
    }
    joined
}

#[test]
fn tagged_calls() {
    let one =
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": [\"x\"]}}\n</tool_call>";
    let f = call("f", "{\"b\":1,\"a\":[\"x\"]}");
    for size in [1, 2, 3, 7, 1000] {
        let parse = |input: &str| parse(ToolFormat::Tagged, input, size);
        assert_eq!(
            parse("just text <b> </tool_call>"),
            [text("just text <b> </tool_call>")]
        );
        assert_eq!(parse(one), std::slice::from_ref(&f));
        assert_eq!(
            parse(&format!("Let me see.\n{one}\n{one}\n")),
            [text("Let me see."), f.clone(), f.clone()]
        );
        assert_eq!(parse(&format!("{one} after")), [f.clone(), text(" after")]);
        assert_eq!(
            parse(
                "<tool_call>[{\"name\": \"a\", \"arguments\": {}}, {\"name\": \"b\"}]</tool_call>"
            ),
            [call("a", "{}"), call("b", "{}")]
        );
        assert_eq!(
            parse("<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>"),
            [call("f", "{\"a\":1}")]
        );
        assert_eq!(
            parse(
                "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"</tool_call>\"}}</tool_call>"
            ),
            [call("f", "{\"x\":\"</tool_call>\"}")]
        );
        assert_eq!(
            parse("<tool_call>\n{\"name\": \"f\", \"arguments\": {}}"),
            [call("f", "{}")],
            "an end mark may lack"
        );
        for malformed in [
            "<tool_call>{\"name\": }</tool_call> x",
            "<tool_call>{\"name\": 5}</tool_call>",
            "<tool_call>[]</tool_call>",
            "<tool_call>{\"name\": \"\"}</tool_call>",
            "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
            "<tool_call>{\"name\": \"f\", \"argum",
            "<tool_call>",
            "<tool_ca",
        ] {
            assert_eq!(parse(malformed), [text(malformed)]);
        }
    }
}

#[test]
fn text_is_not_held_back() {
    let mut parser = ToolParser::new(ToolFormat::Tagged);
    assert_eq!(parser.push("Hello"), [text("Hello")]);
    assert_eq!(parser.push(" wor <to"), [text(" wor")]);
    assert_eq!(parser.push("day"), [text(" <today")]);
    assert!(!parser.is_inside());
    assert_eq!(parser.push("<tool_call>{"), []);
    assert!(parser.is_inside());
}

#[test]
fn bare_calls() {
    for size in [1, 5, 1000] {
        let parse = |input: &str| parse(ToolFormat::Bare, input, size);
        assert_eq!(
            parse("{\"name\": \"f\", \"parameters\": {\"a\": 1}}"),
            [call("f", "{\"a\":1}")]
        );
        assert_eq!(
            parse("<|python_tag|>{\"name\": \"f\", \"parameters\": {}}"),
            [call("f", "{}")]
        );
        assert_eq!(parse("hello {\"name\": 1}"), [text("hello {\"name\": 1}")]);
        assert_eq!(parse("{\"x\": 1}"), [text("{\"x\": 1}")]);
    }
    assert_eq!(
        ToolFormat::of_template("… <tool_call> … \"parameters\""),
        ToolFormat::Tagged
    );
    assert_eq!(
        ToolFormat::of_template("{\"name\": f, \"parameters\": d}"),
        ToolFormat::Bare
    );
}

fn stop(stops: &[&str], input: &str, size: usize) -> (String, Option<usize>) {
    let mut matcher = StopMatcher::new(stops.iter().map(|s| (*s).to_owned()).collect()).unwrap();
    let characters: Vec<char> = input.chars().collect();
    let (mut out, mut stopped) = (String::new(), None);
    for piece in characters.chunks(size.max(1)) {
        let step = matcher.push(&piece.iter().collect::<String>());
        out.push_str(&step.text);
        stopped = step.stopped;
    }
    out.push_str(&matcher.finish());
    (out, stopped)
}

#[test]
fn stops() {
    for size in [1, 2, 3, 100] {
        assert_eq!(
            stop(&["END"], "one EN two END three", size),
            ("one EN two ".to_owned(), Some(0))
        );
        assert_eq!(
            stop(&["\n\n", "é!"], "aé\né!\n\n", size),
            ("aé\n".to_owned(), Some(1))
        );
        assert_eq!(stop(&["aab"], "aaaab", size), ("aa".to_owned(), Some(0)));
        assert_eq!(
            stop(&["abc", "b"], "xabc", size),
            ("xa".to_owned(), Some(1))
        );
        assert_eq!(
            stop(&["bc", "abc"], "xabc", size),
            ("x".to_owned(), Some(1))
        );
        assert_eq!(stop(&["END"], "the EN", size), ("the EN".to_owned(), None));
        assert_eq!(stop(&[], "text", size), ("text".to_owned(), None));
    }
    assert!(matches!(
        StopMatcher::new(vec!["a".to_owned(); 17]),
        Err(TextError::Limit { .. })
    ));
    assert!(matches!(
        StopMatcher::new(vec!["a".repeat(2000)]),
        Err(TextError::Limit { .. })
    ));
    assert!(StopMatcher::new(vec![String::new()]).is_err());
}

proptest! {
    #[test]
    fn cutting_changes_nothing(input in "[abé]{0,40}", stops in proptest::collection::vec("[abé]{1,4}", 0..4), size in 1usize..6) {
        let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
        let whole = stop(&stops, &input, 1000);
        prop_assert_eq!(&stop(&stops, &input, size), &whole);
        prop_assert!(input.starts_with(&whole.0));
        let clean = whole.1.is_none() || stops.iter().all(|s| !whole.0.contains(s));
        prop_assert!(clean);
    }

    #[test]
    fn tool_streams_lose_nothing_and_never_panic(input in "(<tool_call>|</tool_call>|\\{|\\}|\"name\": |\"f\"|,|\"arguments\": |\\{\\}|\\[|\\]| |\\n|é|x){0,20}", size in 1usize..9) {
        for format in [ToolFormat::Tagged, ToolFormat::Bare] {
            prop_assert_eq!(parse(format, &input, size), parse(format, &input, 10_000));
        }
    }
}
