//! Opens every vector with the product.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use strongroom::{
    Error, ErrorKind,
    crypto::{
        secret::{Credentials, HmacSecret, Password, RecoveryKey},
        security_key::{Answer, CredentialId},
    },
    format::{
        Attempt, CopyState, Format, Header, Probe,
        native::{HeaderFile, Native, keyfile_digest},
    },
    storage::{MemoryStorage, Storage},
    units::Sector,
    volume,
};

use crate::{
    folder,
    generator::{Edit, Vector},
    stored,
};

/// The layer that answered, in the words of the vectors.
fn layer(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotAContainer => "no match",
        ErrorKind::Damaged => "header failure",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Credentials => "unlock failure",
        ErrorKind::Tampered => "digest failure",
        ErrorKind::Usage => "mismatch",
        kind => panic!("{kind:?}: {error}"),
    }
}

/// The media of a vector.
struct Media {
    container: Arc<MemoryStorage>,
    header: Option<Arc<MemoryStorage>>,
}

impl Media {
    fn of(vector: &Vector) -> Self {
        let storage = |bytes| Arc::new(MemoryStorage::new(bytes));
        let header = vector.header.as_ref().map(|part| storage(made(&part.base, part.length, &part.edit)));
        Self { container: storage(made(&vector.base, vector.length, &vector.edit)), header }
    }

    /// As the files beside the vector are.
    fn bases(vector: &Vector) -> [Option<Vec<u8>>; 2] {
        [Some(made(&vector.base, None, &[])), vector.header.as_ref().map(|part| made(&part.base, None, &[]))]
    }

    fn bytes(&self) -> [Option<Vec<u8>>; 2] {
        [Some(self.container.to_vec()), self.header.as_ref().map(|file| file.to_vec())]
    }

    /// The container, seen through its header file where it has one.
    fn joined(&self) -> strongroom::Result<Arc<dyn Storage>> {
        let container = Arc::clone(&self.container) as Arc<dyn Storage>;
        let Some(header) = &self.header else { return Ok(container) };
        let file = HeaderFile::read(&**header)?;
        file.check_against(&*container, &**header)?;
        Ok(Arc::new(file.over(container, Arc::clone(header) as Arc<dyn Storage>)?))
    }
}

fn made(base: &str, length: Option<u64>, edits: &[Edit]) -> Vec<u8> {
    let mut bytes = std::fs::read(folder().join(base)).unwrap();
    if let Some(length) = length {
        bytes.resize(usize::try_from(length).unwrap(), 0);
    }
    for edit in edits {
        let (start, value) = (usize::try_from(edit.offset).unwrap(), hex::decode(&edit.bytes).unwrap());
        bytes[start..start + value.len()].copy_from_slice(&value);
    }
    bytes
}

/// What the vector presents; `None` where its token does not know any credential of the header.
fn credentials(vector: &Vector, header: &dyn Header) -> Option<Credentials> {
    if let Some(token) = &vector.fido2 {
        let id = CredentialId::new(&hex::decode(&token.credential).unwrap()).unwrap();
        let challenges = header.challenges(&Attempt::default());
        let challenge = challenges.into_iter().find(|challenge| challenge.credential == id)?;
        let secret = token.hmac_secret(&challenge.salt, challenge.verified);
        let secret = HmacSecret::copy_of(&secret).unwrap();
        return Some(Credentials::SecurityKey(Answer { challenge, secret }));
    }
    if let Some(hex) = &vector.recovery_key {
        let key = RecoveryKey::copy_of(&hex::decode(hex).unwrap()).unwrap();
        return Some(Credentials::Recovery(key));
    }
    Some(Credentials::Password {
        password: Password::copy_of(vector.password.as_bytes()).unwrap(),
        keyfiles: vector
            .keyfiles
            .iter()
            .map(|hex| keyfile_digest(hex::decode(hex).unwrap().as_slice()).unwrap())
            .collect(),
    })
}

/// Opens the vector; gives the layer that ended it, and the plaintext where none did.
fn open(vector: &Vector, media: &Media) -> Result<Vec<u8>, &'static str> {
    let storage = &media.joined().map_err(|error| layer(&error))?;
    let attempt = Attempt { keyslot: vector.keyslot, ..Attempt::default() };
    if Native.probe(&**storage).unwrap() == Probe::NoMatch {
        let error = Native.read_header(&**storage).unwrap_err();
        return Err(layer(&error));
    }
    let header = Native.read_header(&**storage).map_err(|error| layer(&error))?;
    let credentials = credentials(vector, &*header).ok_or("unlock failure")?;
    let unlocked = header.unlock(&credentials, &attempt).map_err(|error| layer(&error))?;
    if !vector.read_only {
        header.prepare_writing(&**storage, &unlocked).map_err(|error| layer(&error))?;
    }
    let device = volume::device(Arc::clone(storage), unlocked.layout);
    let mut plaintext = vec![0; usize::try_from(device.geometry().bytes()).unwrap()];
    device.read(&mut plaintext, Sector(0)).map_err(|_| "payload failure")?;
    Ok(plaintext)
}

#[test]
fn every_vector_gets_the_answer_that_it_names() {
    let vectors = stored();
    assert!(vectors.len() > 120, "only {} vectors", vectors.len());
    for (name, vector) in &vectors {
        match open(vector, &Media::of(vector)) {
            Ok(plaintext) => {
                assert_eq!(vector.expect, "success", "{name}");
                assert_eq!(vector.sha256, Some(hex::encode(Sha256::digest(&plaintext))), "{name}");
            }
            Err(layer) => assert_eq!(vector.expect, layer, "{name}"),
        }
    }
}

// proves: NAT-UPD-04
#[test]
fn opening_leaves_behind_what_the_vector_says() {
    for (name, vector) in stored() {
        let (media, before) = (Media::of(&vector), Media::of(&vector).bytes());
        let opened = open(&vector, &media);
        match vector.after.as_str() {
            "unchanged" => assert!(media.bytes() == before, "{name}: opening wrote"),
            "base" => assert!(media.bytes() == Media::bases(&vector), "{name}: the base image is not back"),
            "whole" => {
                assert!(media.bytes() != before, "{name}: nothing was healed");
                assert!(open(&vector, &media) == opened, "{name}: healed, it opens otherwise");
            }
            other => panic!("{name}: {other}?"),
        }
        if vector.after != "unchanged" {
            let storage = media.joined().unwrap();
            let info = Native.read_header(&*storage).unwrap().describe();
            let states: Vec<_> = info.headers.into_iter().map(|copy| copy.state).collect();
            assert_eq!(states, [CopyState::Current; 2], "{name}");
        }
    }
}
