//! Encrypted key files (keystore JSON version 3), one per key, readable by their owner alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use alloy_primitives::Address;
use alloy_signer::k256::elliptic_curve::rand_core::OsRng;
use alloy_signer_local::PrivateKeySigner;
use serde_json::Value;

use crate::{Key, KeyError};

/// Shortest passphrase that a new key file takes, in characters.
pub const MIN_PASSPHRASE: usize = 8;
/// Largest key file that is read, in bytes.
const MAX_FILE: u64 = 16 * 1024;
/// Largest scrypt work factor that is accepted (2^20 needs 1 GiB at r = 8).
const MAX_SCRYPT_N: u64 = 1 << 20;
/// Largest PBKDF2 iteration count that is accepted.
const MAX_PBKDF2_C: u64 = 10_000_000;

/// A key file without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Name of the key.
    pub name: String,
    /// Its address.
    pub address: Address,
}

/// A folder of key files.
#[derive(Clone, Debug)]
pub struct Keystore {
    folder: PathBuf,
}

impl Keystore {
    /// Opens the folder and creates it, readable by its owner alone, if it is missing.
    ///
    /// # Errors
    /// [`KeyError::Disk`].
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, KeyError> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(disk(&folder))?;
        restrict(&folder, 0o700)?;
        Ok(Self { folder })
    }

    /// All keys, by name.
    ///
    /// # Errors
    /// [`KeyError::Disk`], [`KeyError::Format`].
    pub fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(disk(&self.folder))? {
            let path = entry.map_err(disk(&self.folder))?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            if let (Some(name), Some("json")) =
                (name, path.extension().and_then(|ext| ext.to_str()))
            {
                let address = address_of(&path, &read(&path)?)?;
                keys.push(KeyInfo {
                    name: name.to_owned(),
                    address,
                });
            }
        }
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(keys)
    }

    /// Makes a new key and stores it under `name`.
    ///
    /// # Errors
    /// [`KeyError::Name`], [`KeyError::Exists`], [`KeyError::ShortPassphrase`], [`KeyError::Disk`].
    pub fn create(&self, name: &str, passphrase: &str) -> Result<Key, KeyError> {
        self.import(name, PrivateKeySigner::random().to_bytes().0, passphrase)
    }

    /// Stores a secret under `name`. An existing file is never overwritten.
    ///
    /// # Errors
    /// As [`Keystore::create`], and [`KeyError::Secret`].
    pub fn import(&self, name: &str, secret: [u8; 32], passphrase: &str) -> Result<Key, KeyError> {
        let path = self.path(name)?;
        let have = passphrase.chars().count();
        if have < MIN_PASSPHRASE {
            return Err(KeyError::ShortPassphrase {
                have,
                want: MIN_PASSPHRASE,
            });
        }
        let key = Key::from_bytes(secret)?;
        let file = create_private(&path)?;
        match write_encrypted(&self.folder, &path, file, secret, passphrase, key.address()) {
            Ok(()) => Ok(key),
            Err(error) => {
                // The file is ours and empty or half-written; without this the name would stay taken.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Opens the key called `name`.
    ///
    /// # Errors
    /// [`KeyError::NotFound`], [`KeyError::Passphrase`], [`KeyError::Format`], [`KeyError::Address`].
    pub fn unlock(&self, name: &str, passphrase: &str) -> Result<Key, KeyError> {
        let path = self.path(name)?;
        if !path.exists() {
            return Err(KeyError::NotFound {
                name: name.to_owned(),
                folder: self.folder.clone(),
            });
        }
        let json = read(&path)?;
        check_parameters(&path, &json)?;
        let signer = PrivateKeySigner::decrypt_keystore(&path, passphrase)
            .map_err(|_| KeyError::Passphrase(path.clone()))?;
        let key = Key::from_bytes(signer.to_bytes().0)?;
        let want = address_of(&path, &json)?;
        if key.address() != want {
            return Err(KeyError::Address {
                path,
                have: key.address(),
                want,
            });
        }
        Ok(key)
    }

    fn path(&self, name: &str) -> Result<PathBuf, KeyError> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
        };
        if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
            return Err(KeyError::Name(name.chars().take(80).collect()));
        }
        Ok(self.folder.join(format!("{name}.json")))
    }
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::Disk { path, source }
}

#[cfg(unix)]
fn restrict(path: &Path, mode: u32) -> Result<(), KeyError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(disk(path))
}

#[cfg(not(unix))]
fn restrict(_: &Path, _: u32) -> Result<(), KeyError> {
    Ok(())
}

fn create_private(path: &Path) -> Result<fs::File, KeyError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
        _ => KeyError::Disk {
            path: path.to_owned(),
            source,
        },
    })
}

fn write_encrypted(
    folder: &Path,
    path: &Path,
    mut file: fs::File,
    secret: [u8; 32],
    passphrase: &str,
    address: Address,
) -> Result<(), KeyError> {
    let name = path.file_name().and_then(|name| name.to_str());
    // The file exists with mode 0600; the library truncates and fills it, which keeps the mode.
    PrivateKeySigner::encrypt_keystore(folder, &mut OsRng, secret, passphrase, name).map_err(
        |error| KeyError::Format {
            path: path.to_owned(),
            reason: error.to_string(),
        },
    )?;
    let mut json = read(path)?;
    if let Some(object) = json.as_object_mut() {
        let text = format!("{address:#x}");
        object.insert("address".into(), Value::String(text));
    }
    let text = serde_json::to_string_pretty(&json).map_err(|error| KeyError::Format {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    file.set_len(0).map_err(disk(path))?;
    file.write_all(text.as_bytes()).map_err(disk(path))?;
    file.sync_all().map_err(disk(path))
}

fn read(path: &Path) -> Result<Value, KeyError> {
    let format = |reason: String| KeyError::Format {
        path: path.to_owned(),
        reason,
    };
    let length = fs::metadata(path).map_err(disk(path))?.len();
    if length > MAX_FILE {
        return Err(format(format!("{length} bytes, at most {MAX_FILE}")));
    }
    let text = fs::read_to_string(path).map_err(disk(path))?;
    serde_json::from_str(&text).map_err(|error| format(error.to_string()))
}

fn address_of(path: &Path, json: &Value) -> Result<Address, KeyError> {
    let text = json.get("address").and_then(Value::as_str).unwrap_or("");
    text.parse().map_err(|_| KeyError::Format {
        path: path.to_owned(),
        reason: "no `address`".into(),
    })
}

/// The decrypting library trusts these numbers; a changed file must not make it panic or use all memory.
fn check_parameters(path: &Path, json: &Value) -> Result<(), KeyError> {
    let number = |pointer: &str| json.pointer(pointer).and_then(Value::as_u64);
    let length = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).map(str::len);
    let n = number("/crypto/kdfparams/n");
    let c = number("/crypto/kdfparams/c");
    let work_is_bounded = match (n, c) {
        (Some(n), None) => {
            n.is_power_of_two()
                && n <= MAX_SCRYPT_N
                && number("/crypto/kdfparams/r").is_some_and(|r| (1..=16).contains(&r))
                && number("/crypto/kdfparams/p").is_some_and(|p| (1..=16).contains(&p))
        }
        (None, Some(c)) => (1..=MAX_PBKDF2_C).contains(&c),
        _ => false,
    };
    let checks = [
        ("`kdfparams`", work_is_bounded),
        ("`dklen`", number("/crypto/kdfparams/dklen") == Some(32)),
        ("`iv`", length("/crypto/cipherparams/iv") == Some(32)),
        ("`ciphertext`", length("/crypto/ciphertext") == Some(64)),
        ("`version`", number("/version") == Some(3)),
    ];
    match checks.into_iter().find(|(_, holds)| !holds) {
        Some((field, _)) => Err(KeyError::Format {
            path: path.to_owned(),
            reason: format!("{field} is outside what this program accepts"),
        }),
        None => Ok(()),
    }
}
