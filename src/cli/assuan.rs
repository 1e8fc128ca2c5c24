//! Assuan, the protocol of `GnuPG`'s helpers, as a client: lines over two pipes, percent-escaped (libassuan's manual, "Client requests" and
//! "Server responses").
//!
//! The other side may be broken or hostile. What it sends is bounded, and lies in locked memory from the first byte: a secret may be in
//! any line.

use std::io::{self, Read, Write};

use strongroom::{
    crypto::secret::{LockedBytes, Password},
    error::{Error, ErrorKind, Result},
    text::excerpt,
};

/// A connection to a server that has sent its greeting.
#[derive(Debug)]
pub(crate) struct Connection<R, W> {
    reader: R,
    writer: W,
    line: LockedBytes,
}

/// How a request ended.
#[derive(Debug)]
pub(crate) enum Reply {
    /// It was carried out; this is what was sent along.
    Done(Password),
    /// It was refused.
    Refused(Refusal),
}

/// An error of the server's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The error of libgpg-error, without its source.
    pub(crate) code: u32,
    /// What the server says of it, made safe to show.
    pub(crate) told: String,
}

/// What a line of the server's is.
enum Line {
    Done,
    Refused(Refusal),
    /// Data, which lie behind the first two bytes, so long.
    Data(usize),
    Note,
}

impl<R: Read, W: Write> Connection<R, W> {
    /// Takes the greeting.
    ///
    /// # Errors
    /// `Io` where it is none.
    pub(crate) fn begin(reader: R, writer: W) -> Result<Self> {
        let mut connection = Self { reader, writer, line: LockedBytes::zeroed(MAX_LINE_LEN)? };
        match connection.reply()? {
            Reply::Done(_) => Ok(connection),
            Reply::Refused(refusal) => Err(broken(&format!("it refuses to serve: {}", refusal.told))),
        }
    }

    /// What the server is heard through.
    pub(crate) const fn reader(&mut self) -> &mut R {
        &mut self.reader
    }

    /// Sends a request, and takes the reply.
    ///
    /// # Errors
    /// `Io` where the server is gone, or says what no server says.
    pub(crate) fn request(&mut self, name: &str, argument: &str) -> Result<Reply> {
        self.send(name, argument)?;
        self.reply()
    }

    /// Sends a request. What of `argument` does not fit into a line is left out.
    ///
    /// # Errors
    /// `Io` where the server is gone.
    pub(crate) fn send(&mut self, name: &str, argument: &str) -> Result<()> {
        let mut line = name.to_owned();
        if !argument.is_empty() {
            line.push(' ');
            escape(argument, MAX_LINE_LEN - 1, &mut line);
        }
        line.push('\n');
        let sent = self.writer.write_all(line.as_bytes()).and_then(|()| self.writer.flush());
        sent.map_err(|error| broken(&format!("it does not listen: {error}")))
    }

    fn reply(&mut self) -> Result<Reply> {
        let mut data = LockedBytes::zeroed(MAX_DATA_LEN)?;
        let mut len = 0;
        for _ in 0..MOST_LINES {
            match self.read_line()? {
                Line::Done => {
                    let data = data.as_slice().get(..len).unwrap_or_default();
                    return Ok(Reply::Done(Password::copy_of(data)?));
                }
                Line::Refused(refusal) => return Ok(Reply::Refused(refusal)),
                Line::Note => {}
                Line::Data(end) => {
                    let sent = self.line.as_slice().get(DATA.len()..end).unwrap_or_default();
                    let room = data.as_mut_slice().get_mut(len..).unwrap_or_default();
                    len += unescape(sent, room).ok_or_else(|| broken("it sends more than a password"))?;
                }
            }
        }
        Err(broken("it talks without end"))
    }

    /// Reads a line byte by byte: nothing of the next one is taken, and no copy is made.
    fn read_line(&mut self) -> Result<Line> {
        let mut len = 0;
        loop {
            let Some(place) = self.line.as_mut_slice().get_mut(len..=len) else {
                return Err(broken("it sends a line without end"));
            };
            match self.reader.read(place) {
                Ok(0) => return Err(broken("it ended without an answer")),
                Ok(_) if *place == *b"\n" => break,
                Ok(_) => len += 1,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(broken("it does not answer"));
                }
                Err(error) => return Err(broken(&format!("it cannot be heard: {error}"))),
            }
        }
        let line = self.line.as_slice().get(..len).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is = |word: &[u8]| line == word || line.starts_with(&[word, b" "].concat());
        if is(b"OK") {
            Ok(Line::Done)
        } else if is(b"ERR") {
            Ok(Line::Refused(Refusal::parse(line.get(4..).unwrap_or_default())))
        } else if line.starts_with(DATA) {
            Ok(Line::Data(line.len()))
        } else if is(b"S") || line.starts_with(b"#") || line.is_empty() {
            Ok(Line::Note)
        } else {
            // An inquiry is none of those that were agreed on. The line is not shown: there may be a secret in it.
            Err(broken("it does not speak the protocol"))
        }
    }
}

impl Refusal {
    fn parse(line: &[u8]) -> Self {
        let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (code, told) = line.split_at(end);
        let code = std::str::from_utf8(code).ok().and_then(|code| code.parse::<u32>().ok());
        let told = String::from_utf8_lossy(told);
        Self { code: code.unwrap_or_default() & CODE_MASK, told: excerpt(told.trim()) }
    }
}

/// Appends `text` to `line` as far as it fits into `most` bytes, whole characters only.
fn escape(text: &str, most: usize, line: &mut String) {
    for letter in text.chars() {
        let escaped = match letter {
            '%' | '\r' | '\n' | '\0' => format!("%{:02X}", u32::from(letter)),
            other => other.to_string(),
        };
        if line.len() + escaped.len() > most {
            return;
        }
        line.push_str(&escaped);
    }
}

/// Writes what `escaped` stands for to the start of `room`; `None` where that is too short. Gives the length.
fn unescape(escaped: &[u8], room: &mut [u8]) -> Option<usize> {
    let (mut rest, mut len) = (escaped, 0);
    while let Some((first, behind)) = rest.split_first() {
        let hex =
            behind.first_chunk::<2>().filter(|hex| *first == b'%' && hex.iter().all(u8::is_ascii_hexdigit));
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        *room.get_mut(len)? = byte.unwrap_or(*first);
        len += 1;
        rest = if byte.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    Some(len)
}

fn broken(why: &str) -> Error {
    Error::new(ErrorKind::Io, format!("pinentry failed: {why}"))
}

const DATA: &[u8] = b"D ";
/// What libassuan sends and takes, with the end of the line.
const MAX_LINE_LEN: usize = 1000;
/// More than any pinentry takes for a password.
const MAX_DATA_LEN: usize = 4096;
/// Notes and parts of data that a reply may have.
const MOST_LINES: usize = 256;
/// What of an error is not its source.
const CODE_MASK: u32 = 0xffff;

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(says: &str) -> Result<Connection<&[u8], Vec<u8>>> {
        Connection::begin(says.as_bytes(), Vec::new())
    }

    /// What comes of one request to a server that says this after its greeting.
    fn answer(says: &[u8]) -> Result<Reply> {
        let said = [b"OK Pleased to meet you\n", says].concat();
        Connection::begin(&said[..], Vec::new())?.request("GETPIN", "")
    }

    fn password(says: &[u8]) -> Vec<u8> {
        match answer(says).unwrap() {
            Reply::Done(password) => password.expose().to_vec(),
            Reply::Refused(refusal) => panic!("{refusal:?}"),
        }
    }

    #[test]
    fn a_password_is_what_the_data_lines_stand_for() {
        assert_eq!(password(b"D secret\nOK\n"), b"secret");
        assert_eq!(password(b"S PASSWORD_FROM_CACHE\n# note\nD a%25b%0ac\nD d\nOK done\n"), b"a%b\ncd");
        assert_eq!(password("D p\u{e4}ss%C3%A4\r\nOK\r\n".as_bytes()), "p\u{e4}ss\u{e4}".as_bytes());
        assert_eq!(password(b"D 100%\nOK\n"), b"100%");
        assert_eq!(password(b"D 1%zz%+1\nOK\n"), b"1%zz%+1");
        assert_eq!(password(b"OK\n"), b"");
    }

    #[test]
    fn an_error_is_known_by_its_code_whatever_its_source() {
        for said in
            ["ERR 83886179 Operation cancelled <Pinentry>\n", "ERR 99 Operation cancelled <Pinentry>\n"]
        {
            let Reply::Refused(refusal) = answer(said.as_bytes()).unwrap() else { panic!("{said}") };
            assert_eq!(refusal, Refusal { code: 99, told: "Operation cancelled <Pinentry>".to_owned() });
        }
        let Reply::Refused(refusal) = answer(b"ERR \x1b[2J\n").unwrap() else { panic!() };
        assert!(refusal.code == 0 && !refusal.told.contains('\x1b'), "{refusal:?}");
    }

    #[test]
    fn a_server_that_is_none_is_an_error_and_what_it_said_is_not_shown() {
        let endless = "D ".to_owned() + &"x".repeat(2000);
        let much = "D 12345678\n".repeat(1000);
        for (said, told) in [
            (&b""[..], "ended without an answer"),
            (b"D half", "ended without an answer"),
            (b"secret\n", "does not speak"),
            (b"OKAY\n", "does not speak"),
            (b"INQUIRE QUALITY secret\n", "does not speak"),
            (endless.as_bytes(), "a line without end"),
            (&b"# again\n".repeat(1000), "talks without end"),
            (&b"D \n".repeat(1000), "talks without end"),
            (much.as_bytes(), "talks without end"),
            (&("D ".to_owned() + &"x".repeat(900) + "\n").repeat(6).into_bytes(), "more than a password"),
        ] {
            let error = answer(said).unwrap_err();
            assert!(error.kind() == ErrorKind::Io && error.reason().contains(told), "{told}: {error}");
            assert!(!error.reason().contains("secret"), "{error}");
        }
        assert!(connection("ERR 1 no\n").unwrap_err().reason().contains("refuses to serve: no"));
    }

    #[test]
    fn what_is_sent_is_one_line_of_whole_characters() {
        let long = "\u{e4}\n%".repeat(1000);
        let mut connection = connection("OK\nOK\n").unwrap();
        connection.request("SETDESC", &long).unwrap();
        let sent = String::from_utf8(connection.writer).unwrap();
        assert!(sent.starts_with("SETDESC \u{e4}%0A%25\u{e4}%0A%25") && sent.ends_with('\n'), "{sent}");
        assert!(
            sent.len() <= MAX_LINE_LEN && sent.len() > MAX_LINE_LEN - 8 && sent.matches('\n').count() == 1
        );
    }
}
