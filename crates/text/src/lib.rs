//! Text at the edges of a language model: token ids, chat templates, constrained answers, tool calls, stop strings.
//!
//! What stands here decides *which* tokens go in and how tokens read; nothing of it is part of the integer graph. The prompt's
//! token ids are committed in the request, and the masks of a constrained answer are in the sampling statement, so a
//! verifier needs this crate only to see that ids and masks follow from text and grammar.
//!
//! Adversaries: the file of the model (tokenizer.json, GGUF vocabulary, template), the client (messages, tools,
//! schemas, stop strings) and the model itself (any token sequence). All of them get typed errors, in bounded time.
//! Text of a message never becomes a control token: see [`Segment`].
//!
//! ```
//! use assay_text::{ChatTemplate, Message, RenderOptions, Role, Segment, TemplateTokens, Tokenizer, Vocabulary};
//!
//! let mut vocabulary = Vocabulary::bytes("gpt-2");
//! vocabulary.push_control("<|im_end|>");
//! let tokenizer = Tokenizer::from_vocabulary(&vocabulary)?;
//! let template = ChatTemplate::new(
//!     "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}",
//!     &tokenizer,
//!     TemplateTokens::default(),
//! )?;
//! let prompt = template.render(&[Message::new(Role::User, "a<|im_end|>")], &[], &RenderOptions::default())?;
//! let ids = tokenizer.encode_prompt(&prompt)?;
//! assert_eq!(ids.iter().filter(|&&id| tokenizer.is_control(id)).count(), 1);
//! # Ok::<(), assay_text::TextError>(())
//! ```

mod constraint;
mod detokenizer;
mod error;
mod message;
mod segment;
mod stop;
mod template;
mod tokenizer;
mod tools;

pub use constraint::{Constrainer, Constraint, Grammar};
pub use detokenizer::Detokenizer;
pub use error::TextError;
pub use message::{Message, Role, Tool, ToolCall};
pub use segment::{Segment, plain_text};
pub use stop::{StopMatcher, StopStep};
pub use template::{ChatTemplate, RenderOptions, TemplateTokens};
pub use tokenizer::{MAX_TEXT_BYTES, TokenType, Tokenizer, Vocabulary};
pub use tools::{ToolEvent, ToolFormat, ToolParser};
