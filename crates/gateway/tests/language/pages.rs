//! Calls that are not an SDK's: from web pages, and bodies that do not come.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{World, chat_body};

/// Sends a chat with these header lines and `missing` bytes less than it announces; status and body of the answer.
async fn send(world: &World, lines: &str, missing: usize) -> (u16, String) {
    let address = world.base.strip_prefix("http://").unwrap();
    let address = address.strip_suffix("/v1").unwrap();
    let body = chat_body(serde_json::json!({})).to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: text/plain\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n{}\r\n",
        super::RICH,
        body.len(),
        lines.replace("SELF", address),
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let sent = &body.as_bytes()[..body.len() - missing];
    stream.write_all(sent).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_spend_nothing() {
    let world = World::with(1, |config| {
        config.cors = vec!["https://known.example".into()]
    })
    .await;
    for refused in [
        "origin: https://evil.example\r\n",
        "origin: null\r\n",
        "origin: http://localhost:1\r\n",
        "origin: https://known.example.evil.example\r\n",
        "origin: https://evil.example\r\nsec-fetch-site: same-origin\r\n",
        "sec-fetch-site: cross-site\r\n",
    ] {
        let (status, answer) = send(&world, refused, 0).await;
        assert_eq!(status, 403, "{refused}{answer}");
        assert!(answer.contains("\"origin_not_allowed\""), "{answer}");
        assert!(answer.contains("\"invalid_request_error\""), "{answer}");
    }
    assert!(world.operator().asked.lock().is_empty());
    for served in [
        "",
        "origin: https://known.example\r\nsec-fetch-site: cross-site\r\n",
        "origin: http://SELF\r\nsec-fetch-site: same-origin\r\n",
        "sec-fetch-site: none\r\n",
    ] {
        let (status, answer) = send(&world, served, 0).await;
        assert_eq!(status, 200, "{served}{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_not_given_is_no_own_origin() {
    // It listens for everybody: a page may point its own name here.
    let world = World::with(1, |config| config.listen = "0.0.0.0:0".parse().unwrap()).await;
    let rebound = "host: evil.example\r\norigin: http://evil.example\r\n";
    let address = world.base.replace("0.0.0.0", "127.0.0.1");
    let address = address.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address.strip_suffix("/v1").unwrap())
        .await
        .unwrap();
    let call = format!("GET /v1/models HTTP/1.1\r\nconnection: close\r\n{rebound}\r\n");
    stream.write_all(call.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let world = World::with(1, |config| config.body_timeout = Duration::from_millis(200)).await;
    let late = tokio::time::timeout(Duration::from_secs(10), send(&world, "", 1));
    let (status, answer) = late.await.unwrap();
    assert_eq!(status, 408, "{answer}");
    assert!(answer.contains("\"body_timeout\""), "{answer}");
    assert_eq!(send(&world, "", 0).await.0, 200);
}
