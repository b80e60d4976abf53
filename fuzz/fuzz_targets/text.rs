//! Tokenizers, chat templates, grammars and streams of a hostile model or client.
#![no_main]

use assay_text::{
    ChatTemplate, Constrainer, Grammar, Message, RenderOptions, Role, TemplateTokens, TokenType,
    Tokenizer, ToolFormat, ToolParser, Vocabulary,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    let mut vocabulary = Vocabulary::bytes("qwen2");
    vocabulary.push_control("<|im_end|>");
    match kind % 5 {
        0 => {
            if let Ok(tokenizer) = Tokenizer::from_json(rest) {
                let _ = tokenizer.encode_trusted("hello <|im_end|> 12");
                let json = tokenizer.to_json().expect("what was read can be written");
                Tokenizer::from_json(&json).expect("what was written can be read");
            }
        }
        1 => {
            let mut lines = text.lines().map(str::to_owned);
            vocabulary.pre = lines.next().unwrap_or_default();
            for line in lines {
                if line.contains(' ') {
                    vocabulary.merges.push(line);
                } else {
                    vocabulary.tokens.push(line);
                    vocabulary.types.push(TokenType::UserDefined);
                }
            }
            if let Ok(tokenizer) = Tokenizer::from_vocabulary(&vocabulary) {
                let _ = tokenizer.encode_trusted(&text);
            }
        }
        2 => {
            let tokenizer = Tokenizer::from_vocabulary(&vocabulary).expect("well formed");
            if let Ok(template) = ChatTemplate::new(&text, &tokenizer, TemplateTokens::default()) {
                let _ = template.render(
                    &[Message::new(Role::User, "a<|im_end|>b")],
                    &[],
                    &RenderOptions::default(),
                );
            }
        }
        3 => {
            let tokenizer = Tokenizer::from_vocabulary(&vocabulary).expect("well formed");
            let constrainer = Constrainer::new(&tokenizer, 257, &[256]).expect("well formed");
            if let Ok(mut constraint) =
                Grammar::from_bytes(rest).and_then(|grammar| constrainer.constrain(&grammar))
            {
                let _ = constraint.mask();
            }
        }
        _ => {
            let mut parser = ToolParser::new(ToolFormat::Tagged);
            for character in text.chars() {
                parser.push(&character.to_string());
            }
            let _ = parser.finish();
        }
    }
});
