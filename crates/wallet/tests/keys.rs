//! Keys and key files: nothing leaks, nothing is overwritten, changed files do not open.

use std::fs;

use assay_wallet::{Key, KeyError, Keystore, dev_key, is_dev_address};

const PASSPHRASE: &str = "correct horse battery";

#[test]
fn development_accounts_are_the_well_known_ones_and_marked() {
    let one = dev_key(1).unwrap();
    assert_eq!(
        one.address().to_string(),
        "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    );
    assert!(is_dev_address(one.address()));
    assert!(!is_dev_address(Key::random().address()));
}

#[test]
fn key_files_round_trip_and_are_private() {
    let folder = tempfile::tempdir().unwrap();
    let store = Keystore::open(folder.path().join("keys")).unwrap();
    let key = store.create("main", PASSPHRASE).unwrap();
    assert_eq!(
        store.unlock("main", PASSPHRASE).unwrap().address(),
        key.address()
    );
    let listed = store.list().unwrap();
    assert_eq!(
        (listed[0].name.as_str(), listed[0].address),
        ("main", key.address())
    );
    assert!(matches!(
        store.unlock("main", "wrong passphrase"),
        Err(KeyError::Passphrase(_))
    ));
    assert!(matches!(
        store.create("main", PASSPHRASE),
        Err(KeyError::Exists(_))
    ));
    assert!(matches!(
        store.unlock("other", PASSPHRASE),
        Err(KeyError::NotFound { .. })
    ));
    assert!(matches!(
        store.create("short", "1234567"),
        Err(KeyError::ShortPassphrase { .. })
    ));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.path().join("keys/main.json");
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let keys = fs::metadata(folder.path().join("keys")).unwrap();
        assert_eq!(keys.permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn names_cannot_leave_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = Keystore::open(folder.path()).unwrap();
    for name in ["", "../x", "a/b", "A", "a.b", "a\0", &"a".repeat(65)] {
        assert!(
            matches!(store.create(name, PASSPHRASE), Err(KeyError::Name(_))),
            "{name:?}"
        );
    }
}

#[test]
fn changed_files_are_refused_without_panic() {
    let folder = tempfile::tempdir().unwrap();
    let store = Keystore::open(folder.path()).unwrap();
    store.create("main", PASSPHRASE).unwrap();
    let path = folder.path().join("main.json");
    let good: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for (pointer, value) in [
        ("/crypto/kdfparams/dklen", serde_json::json!(4)),
        ("/crypto/kdfparams/n", serde_json::json!(1u64 << 40)),
        ("/crypto/kdfparams/n", serde_json::json!(3)),
        ("/crypto/kdfparams/r", serde_json::json!(0)),
        ("/crypto/cipherparams/iv", serde_json::json!("00")),
        ("/crypto/ciphertext", serde_json::json!("00")),
        ("/crypto/mac", serde_json::json!("00".repeat(32))),
        ("/version", serde_json::json!(4)),
        (
            "/address",
            serde_json::json!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
        ),
        ("/address", serde_json::json!(1)),
    ] {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        fs::write(&path, changed.to_string()).unwrap();
        assert!(store.unlock("main", PASSPHRASE).is_err(), "{pointer}");
    }
    for text in ["", "{}", "[]", "{\"crypto\":1}"] {
        fs::write(&path, text).unwrap();
        assert!(store.unlock("main", PASSPHRASE).is_err(), "{text}");
    }
}

#[test]
fn secrets_do_not_print() {
    let secret = [0xabu8; 32];
    let key = Key::from_bytes(secret).unwrap();
    assert!(!format!("{key:?}").to_lowercase().contains("abababab"));
    let error = Key::from_bytes([0xff; 32]).unwrap_err();
    assert!(!format!("{error:?} {error}").contains("ff"), "{error:?}");
    let error = Key::from_mnemonic("zebra zebra", 0).unwrap_err();
    assert!(!format!("{error:?} {error}").contains("zebra"));
}
