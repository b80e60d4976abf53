//! A real classifier behind the gateway: the digits that come with the program.

mod support;

use std::sync::Arc;

use assay_gateway::{ImportedModel, ModelCodec};
use assay_import::{DIGIT_SAMPLES, digits};
use assay_receipt::{Status, verify_bundle};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use support::{Network, RICH, block, config, get, post_as, start};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_classified_however_it_is_sent() {
    let model = digits().unwrap();
    let network = Network::start(Arc::clone(&model.graph), None).await;
    let offered = Arc::new(ImportedModel::new(model));
    let mut config = config(&network);
    config.models = vec![Arc::clone(&offered) as Arc<dyn ModelCodec>];
    let gateway = start(config).await;
    block(|| {
        let (_, png) = DIGIT_SAMPLES[1];
        let name = offered.name();
        let text = STANDARD.encode(png);
        let mut form = format!("--B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{name}\r\n--B\r\nContent-Disposition: form-data; name=\"image\"; filename=\"digit.png\"\r\nContent-Type: image/png\r\n\r\n").into_bytes();
        form.extend_from_slice(png);
        form.extend_from_slice(b"\r\n--B--\r\n");
        let post = |kind: &str, path: &str, body: &[u8]| post_as(&gateway, RICH, kind, path, body);
        let path = "/v1/infer";
        let replies = [
            post(
                "application/json",
                path,
                json!({"model": name, "image": text}).to_string().as_bytes(),
            ),
            post(
                "application/json",
                path,
                json!({"model": name, "image": format!("data:image/png;base64,{text}")})
                    .to_string()
                    .as_bytes(),
            ),
            post("image/png", &format!("{path}?model={name}"), png),
            post("multipart/form-data; boundary=B", path, &form),
        ];
        for reply in &replies {
            assert_eq!(reply.status, 200, "{}", reply.body);
            assert_eq!(reply.body["classes"][0]["label"], "3", "{}", reply.body);
        }
        for (kind, body) in [
            ("image/png", &b"no image"[..]),
            ("application/json", b"{\"image\":\"AAAA\"}"),
        ] {
            let reply = post(kind, &format!("{path}?model={name}"), body);
            assert_eq!(
                (reply.status, reply.body["error"]["param"].as_str()),
                (400, Some("image")),
                "{}",
                reply.body
            );
        }
        let reply = post(
            "application/json",
            "/v1/embeddings",
            json!({"model": name, "input": "x"}).to_string().as_bytes(),
        );
        assert_eq!(
            (reply.status, reply.body["error"]["param"].as_str()),
            (400, Some("model"))
        );

        // Running the model again, from the bundle alone, gives the same bits.
        let claim = replies[0].headers["assay-receipt"].to_str().unwrap();
        let bundle = get(&gateway, &format!("/v1/receipts/{claim}")).body["bundle"].to_string();
        let bundle = assay_receipt::Bundle::from_json(&bundle).unwrap();
        let engine = assay_engine::Engine::new(
            Arc::clone(&network.graph),
            assay_engine::EngineOptions::default(),
        )
        .unwrap();
        let replay = |_: &assay_receipt::Bundle, salt: alloy_primitives::B256, input: &[u8]| {
            let structure = network.graph.structure();
            let tensor = assay_operator::input_tensor(&structure.types[0], 1, input)?;
            let run = engine.run_traced(&tensor, &salt.0)?;
            Ok(assay_receipt::ReplayOutcome {
                model_id: network.graph.model_id().into(),
                output: run.output.data.to_bytes(),
                trace_root: run.root().into(),
                n_leaves: run.tree.leaves(),
                mask_root: alloy_primitives::B256::ZERO,
            })
        };
        let report = verify_bundle(&bundle, Some(&network.client), Some(&replay)).unwrap();
        assert_eq!(
            report.fact("replay").unwrap().status,
            Status::Shown,
            "{report}"
        );
    });
}
