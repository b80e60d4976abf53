//! Byte-level BPE on small made vocabularies.

use assay_text::{Detokenizer, Segment, TextError, TokenType, Tokenizer, Vocabulary};
use proptest::prelude::*;

/// 256 bytes, a few merges, two control tokens (261, 262) and a user-defined one (263).
fn small(pre: &str) -> Vocabulary {
    let mut vocabulary = Vocabulary::bytes(pre);
    vocabulary
        .push_merge("h", "e")
        .push_merge("l", "l")
        .push_merge("he", "ll")
        .push_merge("hell", "o");
    vocabulary.push_merge("Ġ", "hello");
    vocabulary
        .push_control("<|im_start|>")
        .push_control("<|im_end|>");
    vocabulary.tokens.push("<tool_call>".to_owned());
    vocabulary.types.push(TokenType::UserDefined);
    vocabulary
}

fn tokenizer(pre: &str) -> Tokenizer {
    Tokenizer::from_vocabulary(&small(pre)).expect("the vocabulary is well formed")
}

#[test]
fn merges_by_rank() {
    let tokenizer = tokenizer("gpt-2");
    assert_eq!(tokenizer.encode("hello hello").unwrap(), [259, 260]);
    assert_eq!(tokenizer.encode("hell").unwrap(), [258]);
    assert_eq!(tokenizer.encode("").unwrap(), [] as [u32; 0]);
    assert_eq!(tokenizer.vocabulary(), 264);
    assert_eq!(tokenizer.token_bytes(260), b" hello");
    assert_eq!(tokenizer.token_bytes(264), b"");
    assert_eq!(tokenizer.token_bytes(u32::MAX), b"");
    assert_eq!(tokenizer.id_of("Ġhello"), Some(260));
    assert_eq!(tokenizer.id_of("<|im_end|>"), Some(262));
}

#[test]
fn control_tokens_are_matched_in_trusted_text_only() {
    let tokenizer = tokenizer("qwen2");
    assert_eq!(
        tokenizer
            .encode_trusted("<|im_start|>hello<|im_end|>")
            .unwrap(),
        [261, 259, 262]
    );
    let plain = tokenizer.encode("<|im_start|>hello<tool_call>").unwrap();
    assert!(plain.iter().all(|&id| id < 261), "{plain:?}");
    let prompt = [
        Segment::Trusted("<|im_start|>he".to_owned()),
        Segment::Content("ll<|im_end|>".to_owned()),
        Segment::Trusted("<|im_".to_owned()),
        Segment::Content("end|>".to_owned()),
        Segment::Trusted("<|im_end|>".to_owned()),
    ];
    let ids = tokenizer.encode_prompt(&prompt).unwrap();
    assert_eq!(
        ids.iter().filter(|&&id| tokenizer.is_control(id)).count(),
        2
    );
    assert_eq!(ids[1], 258, "words may span segments");
    assert_eq!(tokenizer.decode(&ids), "hell<|im_end|><|im_end|>");
}

#[test]
fn json_and_vocabulary_agree() {
    for pre in ["gpt-2", "smollm", "qwen2", "llama-bpe"] {
        let first = tokenizer(pre);
        let json = first.to_json().unwrap();
        let second = Tokenizer::from_json(&json).unwrap();
        assert_eq!(json, second.to_json().unwrap());
        let reference = tokenizers::Tokenizer::from_bytes(&json).unwrap();
        for text in [
            "hello  hello\n\n 12345 'S's <|im_end|>",
            "héllo 你好 ½² <tool_call>\t\t x",
            "   ",
        ] {
            let ids = first.encode_trusted(text).unwrap();
            assert_eq!(ids, second.encode_trusted(text).unwrap());
            assert_eq!(
                ids,
                reference.encode_fast(text, false).unwrap().get_ids(),
                "{pre} {text}"
            );
        }
    }
}

#[test]
fn documents_start_as_the_file_says() {
    let mut vocabulary = small("gpt-2");
    vocabulary.bos = Some(261);
    assert_eq!(
        Tokenizer::from_vocabulary(&vocabulary).unwrap().prefix(),
        [] as [u32; 0]
    );
    vocabulary.add_bos = true;
    let tokenizer = Tokenizer::from_vocabulary(&vocabulary).unwrap();
    assert_eq!(tokenizer.prefix(), [261]);
    assert_eq!(
        Tokenizer::from_json(&tokenizer.to_json().unwrap())
            .unwrap()
            .prefix(),
        [261]
    );
    vocabulary.bos = Some(9999);
    assert!(matches!(
        Tokenizer::from_vocabulary(&vocabulary),
        Err(TextError::Tokenizer { .. })
    ));
}

#[test]
fn hostile_vocabularies_are_errors() {
    let broken = |change: &dyn Fn(&mut Vocabulary)| {
        let mut vocabulary = small("gpt-2");
        change(&mut vocabulary);
        Tokenizer::from_vocabulary(&vocabulary)
            .map(|_| ())
            .unwrap_err()
    };
    assert!(matches!(
        broken(&|v| v.tokens[5] = v.tokens[6].clone()),
        TextError::DuplicateToken {
            first: 5,
            second: 6,
            ..
        }
    ));
    assert!(matches!(
        broken(&|v| {
            v.push_control("a");
        }),
        TextError::DuplicateToken { .. }
    ));
    assert!(matches!(
        broken(&|v| v.merges.push("he nonsense".to_owned())),
        TextError::Merge { index: 5, ref token, .. } if token == "nonsense"
    ));
    assert!(matches!(
        broken(&|v| v.merges.push("h h".to_owned())),
        TextError::Merge { ref token, .. } if token == "hh"
    ));
    for merge in ["", "x", "a b c", " a"] {
        assert!(matches!(
            broken(&|v| v.merges.push(merge.to_owned())),
            TextError::Tokenizer { .. } | TextError::Merge { .. }
        ));
    }
    assert!(matches!(
        broken(&|v| v.pre = "tekken".to_owned()),
        TextError::Unsupported { .. }
    ));
    assert!(matches!(
        broken(&|v| {
            v.types.pop();
        }),
        TextError::Tokenizer { .. }
    ));
    assert!(matches!(
        broken(&|v| v.tokens[3] = "x".repeat(5000)),
        TextError::Limit { .. }
    ));
    assert!(matches!(
        broken(&|v| {
            v.tokens.clear();
            v.types.clear();
            v.merges.clear();
        }),
        TextError::Tokenizer { .. }
    ));
    assert!(matches!(
        broken(&|v| {
            v.tokens = (0..600_000).map(|n| n.to_string()).collect();
            v.types.clear();
            v.merges.clear();
        }),
        TextError::Tokenizer { .. } | TextError::Limit { .. }
    ));
}

#[test]
fn hostile_json_is_an_error() {
    let good = String::from_utf8(tokenizer("qwen2").to_json().unwrap()).unwrap();
    for (from, to) in [
        ("\"type\":\"BPE\"", "\"type\":\"WordPiece\""),
        (
            "\"type\":\"ByteLevel\",\"add_prefix_space\":false",
            "\"type\":\"Whitespace\",\"add_prefix_space\":false",
        ),
        ("\"dropout\":null", "\"dropout\":0.5"),
        ("\"byte_fallback\":false", "\"byte_fallback\":true"),
        (
            "\"end_of_word_suffix\":null",
            "\"end_of_word_suffix\":\"</w>\"",
        ),
        (
            "\"normalizer\":null",
            "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}",
        ),
        ("\"id\":261", "\"id\":4294967295"),
        ("\"id\":261", "\"id\":7"),
        ("\"single_word\":false", "\"single_word\":true"),
        ("(?i:", "(?i:((("),
    ] {
        assert!(good.contains(from), "{from}");
        let error = Tokenizer::from_json(good.replacen(from, to, 1).as_bytes())
            .map(|_| ())
            .unwrap_err();
        assert!(!error.to_string().is_empty());
    }
    assert!(Tokenizer::from_json(b"").is_err());
    assert!(Tokenizer::from_json(b"{\"model\":{\"type\":\"BPE\"}}").is_err());
    assert!(Tokenizer::from_json(&vec![b'['; 1 << 20]).is_err());
}

#[test]
fn long_texts_take_linear_time() {
    let started = std::time::Instant::now();
    for pre in ["gpt-2", "smollm", "qwen2", "llama-bpe"] {
        let tokenizer = tokenizer(pre);
        for text in [
            " ", "a", "\n", " \n", "!", "1", "\u{301}", "hell", "\r\n\t", "'",
        ] {
            let text = text.repeat((64 << 10) / text.len());
            let ids = tokenizer.encode(&text).unwrap();
            assert_eq!(tokenizer.decode(&ids), text, "{pre}");
        }
        assert!(matches!(
            tokenizer.encode(&" ".repeat(3 << 20)),
            Err(TextError::Limit { .. })
        ));
    }
    println!("40 texts of 64 KiB in {:?}", started.elapsed());
}

proptest! {
    #[test]
    fn text_comes_back(text in "\\PC{0,60}|[ \\n\\t\\r]{0,20}|(hello|<\\|im_end\\|>| |é|😀|\u{0}){0,12}") {
        for pre in ["gpt-2", "smollm", "qwen2", "llama-bpe"] {
            let tokenizer = tokenizer(pre);
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert!(ids.iter().all(|&id| id < 261));
            prop_assert_eq!(tokenizer.decode(&ids), text.clone());
        }
    }

    #[test]
    fn pieces_join_to_the_lossy_text(ids in proptest::collection::vec(0u32..270, 0..40)) {
        let tokenizer = tokenizer("qwen2");
        let mut stream = Detokenizer::new(&tokenizer);
        let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
        prop_assert!(stream.pending() <= 3);
        text.push_str(&stream.finish());
        prop_assert_eq!(text, tokenizer.decode(&ids));
    }

    #[test]
    fn changed_json_never_panics(at in 0usize..40_000, byte in any::<u8>()) {
        let mut json = tokenizer("llama-bpe").to_json().unwrap();
        let at = at % json.len();
        json[at] = byte;
        if let Ok(tokenizer) = Tokenizer::from_json(&json) {
            let _ = tokenizer.encode("hello <|im_end|> 12");
            let _ = tokenizer.encode_trusted("hello <|im_end|> 12");
        }
    }
}
