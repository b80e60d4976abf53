//! The language endpoints against operators that follow a script, over a chain that answers by hand.

mod calls;
mod chain;
mod client;
mod faults;
mod load;
mod official;
mod operator;
mod pages;
mod refusals;
mod shapes;

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use assay_gateway::{
    Account, CodecError, Decoded, Gateway, GatewayConfig, Language, ModelCodec, ModelKind, Running,
};
use assay_text::{ChatTemplate, Constrainer, Grammar, TemplateTokens, Tokenizer, Vocabulary};
use assay_wallet::dev_key;
use serde_json::{Value, json};

use client::{Reply, Whole};
use operator::{Asked, Behaviour, FakeOperator, Step};

const MODEL: &str = "echo";
const CONTEXT: u32 = 2_048;
const RICH: &str = "sk-rich";
const POOR: &str = "sk-poor";
const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

async fn listen(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// A model of bytes.
struct Echo {
    language: Language,
}

impl ModelCodec for Echo {
    fn model_id(&self) -> B256 {
        B256::repeat_byte(0xab)
    }

    fn name(&self) -> &str {
        MODEL
    }

    fn kind(&self) -> ModelKind {
        ModelKind::Language
    }

    fn max_tokens(&self) -> u32 {
        CONTEXT
    }

    fn language(&self) -> Option<&Language> {
        Some(&self.language)
    }

    fn decode(&self, _output: &[u8]) -> Result<Decoded, CodecError> {
        Err(CodecError::Unsupported("decoding"))
    }
}

fn echo() -> Echo {
    let mut vocabulary = Vocabulary::bytes("gpt-2");
    vocabulary.push_control("<|im_start|>");
    vocabulary.push_control("<|im_end|>");
    let tokenizer = Tokenizer::from_vocabulary(&vocabulary).unwrap();
    let template = ChatTemplate::new(TEMPLATE, &tokenizer, TemplateTokens::default()).unwrap();
    let end = tokenizer.id_of("<|im_end|>").unwrap();
    Echo {
        language: Language::new(tokenizer, Some(template), vec![end], CONTEXT, 0).unwrap(),
    }
}

/// A gateway with operators behind it.
struct World {
    _chain: Arc<chain::State>,
    operators: Vec<Arc<FakeOperator>>,
    language: Language,
    base: String,
    _gateway: Running,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        Self::with(1, |_| {}).await
    }

    async fn with(operators: u32, change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let chain = Arc::new(chain::State::default());
        let model = echo();
        let language = model.language.clone();
        let rich = dev_key(1).unwrap();
        chain.balances.lock().insert(rich.address(), 1_000_000_000);
        let mut fakes = Vec::new();
        for index in 0..operators {
            let (key, receipt_key) = (dev_key(5 + index).unwrap(), dev_key(12 + index).unwrap());
            let fake = FakeOperator::new(key, receipt_key, model.model_id());
            let url = fake.serve().await;
            let entry = (fake.key.address(), url, fake.receipt_key.address());
            chain.operators.lock().push(entry);
            fakes.push(fake);
        }
        let url = chain::serve(Arc::clone(&chain)).await;
        let folder = tempfile::tempdir().unwrap();
        let mut config = GatewayConfig::new(folder.path(), url);
        config.models = vec![Arc::new(model)];
        let account = |name: &str, api_key: &str, key| Account {
            name: name.into(),
            api_key: api_key.into(),
            key,
        };
        config.accounts = vec![
            account("rich", RICH, rich),
            account("poor", POOR, dev_key(11).unwrap()),
        ];
        change(&mut config);
        let opened = tokio::task::spawn_blocking(|| Gateway::open(config).unwrap());
        let gateway = opened.await.unwrap().start().await.unwrap();
        let world = Self {
            _chain: chain,
            operators: fakes,
            language,
            base: gateway.base_url(),
            _gateway: gateway,
            _folder: folder,
        };
        world.say("Hello!");
        world
    }

    fn operator(&self) -> &FakeOperator {
        &self.operators[0]
    }

    /// Ids of a text, and of the end of a turn.
    fn ids(&self, text: &str) -> Vec<u32> {
        self.language.tokenizer().encode(text).unwrap()
    }

    fn turn(&self, text: &str) -> Vec<u32> {
        let mut ids = self.ids(text);
        ids.extend(self.language.stop());
        ids
    }

    /// Every operator answers with this text and ends its turn.
    fn say(&self, text: &str) {
        let ids = self.turn(text);
        self.play(move |_| Behaviour {
            steps: vec![Step::Say(ids.clone())],
            ..Behaviour::default()
        });
    }

    fn play(&self, script: impl Fn(&Asked) -> Behaviour + Send + Sync + Clone + 'static) {
        for operator in &self.operators {
            operator.play(script.clone());
        }
    }

    fn steps(&self, steps: Vec<Step>) {
        self.play(move |_| Behaviour {
            steps: steps.clone(),
            ..Behaviour::default()
        });
    }

    /// The answer to a constrained request, with the masks that its grammar gives.
    fn constrained(language: &Language, asked: &Asked, ids: Vec<u32>) -> Behaviour {
        let grammar = Grammar::from_bytes(asked.grammar.as_ref().unwrap()).unwrap();
        let tokenizer = language.tokenizer();
        let constrainer = Constrainer::new(tokenizer, tokenizer.vocabulary(), language.stop());
        let mut constraint = constrainer.unwrap().constrain(&grammar).unwrap();
        let mut masks = Vec::new();
        for id in &ids {
            masks.push(constraint.mask().unwrap());
            if constraint.accept(*id).is_err() {
                break;
            }
        }
        Behaviour {
            steps: vec![Step::Say(ids)],
            masks,
            ..Behaviour::default()
        }
    }

    async fn post(&self, path: &str, body: Value) -> Reply {
        client::call(&self.base, "POST", path, Some(&body), RICH).await
    }

    async fn get(&self, path: &str) -> Whole {
        client::call(&self.base, "GET", path, None, RICH)
            .await
            .whole()
            .await
    }

    /// A chat with one message and these fields.
    async fn chat(&self, fields: Value) -> Reply {
        self.post("/chat/completions", chat_body(fields)).await
    }

    /// The last request that the first operator got.
    fn last(&self) -> Asked {
        self.operator().asked.lock().last().unwrap().clone()
    }
}

fn chat_body(fields: Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// Waits until something holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 5 seconds: {what}");
}
