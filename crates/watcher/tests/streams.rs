//! Many answers at a time: streams, stops, cancels, refusals, faults of one among others.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{B256, U256};
use assay_engine::{EngineOptions, FullRun, Sequence};
use assay_graph::Sampling;
use assay_graph::trace::Tree;
use assay_operator::{
    Answered, Ask, Execution, HonestSpeaker, LanguageModel, Pace, Prompt, RunResponse, Speaker,
};
use serde_json::{Value, json};
use support::language::{Call, Events, VOCABULARY, ids, prompt, sampling, speaker};
use support::{Network, PRICE, block};

const ASSERTED: u8 = 1;

async fn honest() -> Network {
    let graph = speaker(1, 2);
    let model = LanguageModel::new(Arc::clone(&graph), EngineOptions::default()).unwrap();
    Network::with_model(graph, Box::new(model), |_| ()).await
}

fn response(last: (String, Value)) -> RunResponse {
    assert_eq!(last.0, "done", "{}", last.1);
    serde_json::from_value(last.1).unwrap()
}

fn said(tokens: &[Value]) -> Vec<u32> {
    let id = |token: &Value| token["id"].as_u64().unwrap() as u32;
    tokens.iter().map(id).collect()
}

fn post(network: &Network, path: &str) -> u16 {
    let url = format!("{}{path}", network.operator.as_ref().unwrap().url());
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .new_agent();
    agent.post(&url).send_empty().unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_the_tokens_of_its_receipt() {
    let network = honest().await;
    block(|| {
        let mut call = Call::new(prompt(9), sampling(24)).streamed();
        call.logprobs = Some(5);
        let ask = call.ask(&network);
        let (job, tokens, last) = Events::open(&network, &ask).unwrap().all();
        let answer = response(last);
        answer.receipt.check_answers(&ask.run.request).unwrap();
        assert_eq!(said(&tokens), ids(&answer));
        assert_eq!(job.parse::<B256>().unwrap(), answer.receipt.request_hash);
        assert_eq!(answer.sampling, Some(call.sampling.encode().into()));
        for token in &tokens {
            let top = token["top"].as_array().unwrap();
            assert_eq!(top.len(), 5);
            let probs: Vec<f64> = top.iter().map(|t| t[1].as_f64().unwrap()).collect();
            assert!(probs.is_sorted_by(|a, b| a >= b) && probs.iter().all(|p| *p <= 0.0));
            let own = token["logprob"].as_f64().unwrap();
            let listed = top.iter().find(|t| t[0] == token["id"]);
            assert!(listed.is_none_or(|t| t[1].as_f64() == Some(own)));
        }
        // The same request again, streamed or not, gets the same receipt; so does a restart.
        let (_, again, last) = Events::open(&network, &ask).unwrap().all();
        assert_eq!(said(&again), said(&tokens));
        assert_eq!(response(last).claim_id, answer.claim_id);
        // Without probabilities there are none.
        let plain = Call::new(prompt(9), sampling(3)).salted(2).streamed();
        let (_, tokens, _) = Events::open(&network, &plain.ask(&network)).unwrap().all();
        assert_eq!(
            tokens[0],
            json!({"id": tokens[0]["id"], "logprob": null, "top": []})
        );
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_change_no_bit_and_places_follow_the_ends() {
    let network = honest().await;
    block(|| {
        let calls: Vec<Call> = (0..8u8)
            .map(|i| {
                let mut sampling = sampling(10 + 9 * u32::from(i % 4));
                sampling.seed = [i; 32];
                Call::new(prompt(3 + 11 * usize::from(i)), sampling).salted(i)
            })
            .collect();
        let asks: Vec<Ask> = calls.iter().map(|call| call.ask(&network)).collect();
        let alone: Vec<Vec<u32>> = calls
            .iter()
            .map(|call| {
                // Another salt: another request, the same tokens.
                let salted = Call::new(call.prompt.clone(), call.sampling.clone())
                    .salted(0x80 ^ call.salt[0]);
                ids(&salted.answer(&network))
            })
            .collect();
        let network = &network;
        let together: Vec<RunResponse> = std::thread::scope(|scope| {
            let threads: Vec<_> = asks
                .iter()
                .map(|ask| {
                    scope.spawn(move || {
                        let ask = Ask {
                            stream: true,
                            ..ask.clone()
                        };
                        let (_, tokens, last) = Events::open(network, &ask).unwrap().all();
                        let answer = response(last);
                        assert_eq!(said(&tokens), ids(&answer));
                        answer
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        for (together, alone) in together.iter().zip(&alone) {
            assert_eq!(&ids(together), alone);
        }
        let mut places: Vec<u64> = together.iter().map(|a| a.receipt.seq).collect();
        places.sort_unstable();
        assert_eq!(places, (9..=16).collect::<Vec<u64>>());
        for answer in &together {
            network.wait_for(answer.claim_id, &[ASSERTED]);
        }
        // All of them replay.
        let (mut watcher, events) = network.watcher(true);
        watcher.tick().unwrap();
        let agreed = events
            .try_iter()
            .filter(|event| matches!(event, assay_watcher::WatcherEvent::Agreed { .. }));
        assert_eq!(agreed.count(), 16);
    });
}

/// Steps slowly, so that there is time to interfere; panics or fails for some prompts.
struct Odd {
    inner: HonestSpeaker,
    pause: Duration,
}

const PANICS: u32 = 66;
const FAILS: u32 = 67;

impl Speaker for Odd {
    type Speech = (Sequence, u32);

    fn start(&self, prompt: &Prompt) -> Result<Self::Speech, String> {
        Ok((self.inner.start(prompt)?, prompt.tokens[0]))
    }

    fn step(&self, batch: &mut [&mut Self::Speech], chunk: usize) -> Result<(), String> {
        std::thread::sleep(self.pause);
        let firsts: Vec<(u32, usize)> = batch.iter().map(|s| (s.1, s.0.answer().len())).collect();
        let mut inner: Vec<&mut Sequence> = batch.iter_mut().map(|s| &mut s.0).collect();
        self.inner.step(&mut inner, chunk)?;
        // After the pass, so that the others have been advanced and must begin anew.
        assert!(
            !firsts.iter().any(|(t, said)| *t == PANICS && *said > 2),
            "on purpose"
        );
        if firsts.iter().any(|(t, said)| *t == FAILS && *said > 4) {
            return Err("on purpose".into());
        }
        Ok(())
    }

    fn pending(&self, speech: &Self::Speech) -> usize {
        speech.0.pending()
    }

    fn logits<'s>(&self, speech: &'s Self::Speech) -> &'s [i16] {
        speech.0.logits()
    }

    fn sample(&self, speech: &mut Self::Speech, mask: Option<&[u8]>) -> Result<u32, String> {
        self.inner.sample(&mut speech.0, mask)
    }

    fn finish(
        &self,
        speech: Self::Speech,
        prompt: &Prompt,
        masks: &[Vec<u8>],
    ) -> Result<Execution, String> {
        self.inner.finish(speech.0, prompt, masks)
    }

    fn committed(&self, run: &Answered<'_>) -> Result<Tree, String> {
        self.inner.committed(run)
    }

    fn segment(&self, run: &Answered<'_>, segment: u32) -> Result<FullRun, String> {
        self.inner.segment(run, segment)
    }
}

async fn odd(pause: Duration, queue: usize) -> Network {
    let graph = speaker(1, 2);
    let inner = HonestSpeaker::new(Arc::clone(&graph), EngineOptions::default()).unwrap();
    let model =
        LanguageModel::with_speaker(&graph, Arc::new(Odd { inner, pause }), Pace::default());
    let model = Box::new(model.unwrap());
    Network::with_model(graph, model, |config| config.queue = queue).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_one_answer_harms_no_other() {
    let network = odd(Duration::from_millis(2), 64).await;
    block(|| {
        let network = &network;
        let good = Call::new(prompt(9), sampling(30));
        let alone = ids(&good.answer(network));
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6u8)
                .map(|i| {
                    scope.spawn(move || {
                        let mut call = Call::new(prompt(9), sampling(30)).salted(i).streamed();
                        match i {
                            4 => call.prompt[0] = PANICS,
                            5 => call.prompt[0] = FAILS,
                            _ => {}
                        }
                        let ask = call.ask(network);
                        Events::open(network, &ask).unwrap().all()
                    })
                })
                .collect();
            for (i, thread) in threads.into_iter().enumerate() {
                let (_, tokens, last) = thread.join().unwrap();
                if i < 4 {
                    assert_eq!(ids(&response(last)), alone);
                    assert_eq!(said(&tokens), alone, "no token is said twice");
                } else {
                    assert_eq!(last.0, "error");
                    assert_eq!(last.1["code"], "failed", "{}", last.1);
                }
            }
        });
        // And the model still answers.
        assert_eq!(ids(&good.salted(99).answer(network)), alone);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_can_be_stopped_and_cancelled() {
    let network = odd(Duration::from_millis(20), 64).await;
    block(|| {
        let before = network.escrow(&network.buyer);
        // Stopped: a receipt for what was answered.
        let ask = Call::new(prompt(9), sampling(100)).streamed().ask(&network);
        let mut events = Events::open(&network, &ask).unwrap();
        let (_, start) = events.next().unwrap();
        let job = start["job"].as_str().unwrap().to_owned();
        // The same request while it runs is refused, and neither stopped nor answered twice.
        let twice = Events::open(&network, &ask).err().unwrap();
        assert_eq!((twice.0, &twice.2["code"]), (409, &json!("running")));
        let mut tokens = 0;
        let last = loop {
            let (name, data) = events.next().unwrap();
            if name != "token" {
                break (name, data);
            }
            tokens += 1;
            if tokens == 3 {
                assert_eq!(post(&network, &format!("/v1/run/{job}/stop")), 204);
            }
        };
        let answer = response(last);
        assert_eq!(ids(&answer).len(), tokens);
        assert!((3..20).contains(&tokens), "{tokens}");
        assert_eq!(answer.receipt.n_out as usize, tokens);
        assert_eq!(post(&network, &format!("/v1/run/{job}/stop")), 404);
        assert_eq!(post(&network, "/v1/run/junk/stop"), 404);
        // Cancelled: no receipt, no fee, and its place is the next one's.
        let ask = Call::new(prompt(9), sampling(100))
            .salted(1)
            .streamed()
            .ask(&network);
        let mut events = Events::open(&network, &ask).unwrap();
        (0..4).for_each(|_| assert!(events.next().is_some()));
        drop(events);
        let begun = Instant::now();
        while network.health()["jobs_waiting"] != 0 {
            assert!(begun.elapsed() < Duration::from_secs(10), "still under way");
            std::thread::sleep(Duration::from_millis(20));
        }
        let next = Call::new(prompt(9), sampling(5)).salted(2).answer(&network);
        assert_eq!(next.receipt.seq, 2);
        network.wait_for(next.claim_id, &[ASSERTED]);
        assert_eq!(
            before - network.escrow(&network.buyer),
            U256::from(2 * PRICE)
        );
        // The cancelled request may be sent again.
        let short = Ask {
            stream: false,
            ..ask
        };
        let (status, answer) = network.post(&serde_json::to_value(&short).unwrap());
        assert_eq!(status, 200, "{answer}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_says_when_to_come_again() {
    let network = odd(Duration::from_millis(30), 2).await;
    block(|| {
        let open = |byte: u8| {
            let ask = Call::new(prompt(9), sampling(60)).salted(byte).streamed();
            Events::open(&network, &ask.ask(&network))
        };
        let mut first = open(1).unwrap();
        let mut second = open(2).unwrap();
        assert!(first.next().is_some() && second.next().is_some());
        let (status, retry, body) = open(3).err().unwrap();
        assert_eq!((status, retry.as_deref()), (429, Some("1")));
        assert_eq!(body["code"], "busy");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn each_false_question_is_refused_by_name() {
    let network = honest().await;
    block(|| {
        let refused = |ask: Ask, status: u16, code: &str| {
            let streamed = Ask {
                stream: true,
                ..ask.clone()
            };
            let (have, _, body) = Events::open(&network, &streamed).err().unwrap();
            assert_eq!(
                (have, body["code"].as_str()),
                (status, Some(code)),
                "{body}"
            );
            let (have, body) = network.post(&serde_json::to_value(&ask).unwrap());
            assert_eq!(
                (have, body["code"].as_str()),
                (status, Some(code)),
                "{body}"
            );
        };
        let good = || Call::new(prompt(9), sampling(5));
        let with = |change: &dyn Fn(&mut Sampling)| {
            let mut call = good();
            change(&mut call.sampling);
            call.ask(&network)
        };
        let ask = |change: &dyn Fn(&mut Ask)| {
            let mut ask = good().ask(&network);
            change(&mut ask);
            ask
        };
        refused(ask(&|a| a.sampling = None), 400, "sampling");
        refused(
            ask(&|a| a.sampling = Some(vec![1, 2, 3].into())),
            400,
            "sampling",
        );
        let other = sampling(6).encode();
        refused(
            ask(&|a| a.sampling = Some(other.clone().into())),
            400,
            "sampling",
        );
        refused(with(&|s| s.temperature = u32::MAX), 400, "sampling");
        refused(with(&|s| s.top_p = 0), 400, "sampling");
        refused(with(&|s| s.repetition = 0), 400, "sampling");
        refused(with(&|s| s.stop = vec![5, 4]), 400, "sampling");
        refused(with(&|s| s.stop = vec![VOCABULARY]), 400, "sampling");
        refused(with(&|s| s.bias = vec![(VOCABULARY, 1)]), 400, "sampling");
        refused(with(&|s| s.max_out = 0), 400, "sampling");
        refused(ask(&|a| a.logprobs = Some(21)), 400, "sampling");
        refused(with(&|s| s.max_out = 153), 400, "context");
        refused(with(&|s| s.max_out = u32::MAX), 400, "context");
        refused(
            Call::new(prompt(161), sampling(1)).ask(&network),
            400,
            "context",
        );
        refused(
            Call::new(Vec::new(), sampling(1)).ask(&network),
            400,
            "input",
        );
        refused(
            Call::new(vec![3, VOCABULARY], sampling(1)).ask(&network),
            400,
            "input",
        );
        refused(with(&|s| s.mask_root = [1; 32]), 400, "grammar");
        refused(ask(&|a| a.grammar = Some(vec![1].into())), 400, "grammar");
        refused(good().constrained(b"x").ask(&network), 400, "grammar");
        // The longest answers are not refused.
        let longest = Call::new(prompt(9), sampling(152)).answer(&network);
        assert_eq!(longest.receipt.n_out, 152);
        let longest = Call::new(prompt(160), sampling(1)).answer(&network);
        assert_eq!(longest.receipt.n_out, 1);
        // A buyer that can't pay for all that it has under way is told so.
        let poor = Call::new(prompt(2), sampling(1));
        let mut costly = poor.ask(&network);
        costly.run.request.max_fee = 1;
        let signature = costly
            .run
            .request
            .sign(&network.domain, network.buyer.receipt_key());
        costly.run.request_signature = signature;
        refused(costly, 402, "price");
    });
}
