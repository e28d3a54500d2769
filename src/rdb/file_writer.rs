//! Writes an RDB file.

use super::checksum::crc64;
use super::file::{AUX, END, EXPIRES_MS, FUNCTION, SELECT};
use super::part::VALKEY_VERSION;
use super::writer::{put_length, put_string};
use std::io::{self, Write};

/// A file that is being written, to any sink with a buffer of its own.
pub struct FileWriter<W> {
    out: W,
    sum: u64,
    database: Option<u32>,
    bytes: u64,
}

impl<W: Write> FileWriter<W> {
    /// Begins a file of this version, Redis's or Valkey's, with notes that servers show when they load it.
    pub fn begin(out: W, version: u32, notes: &[(&str, &str)]) -> io::Result<FileWriter<W>> {
        let mut writer = FileWriter { out, sum: 0, database: None, bytes: 0 };
        let magic = match version {
            VALKEY_VERSION.. => format!("VALKEY{version:03}"),
            _ => format!("REDIS{version:04}"),
        };
        writer.put(magic.as_bytes())?;
        for (name, value) in notes {
            let mut note = vec![AUX];
            put_string(name.as_bytes(), &mut note);
            put_string(value.as_bytes(), &mut note);
            writer.put(&note)?;
        }
        Ok(writer)
    }

    /// The code of a library of functions.
    pub fn function(&mut self, code: &[u8]) -> io::Result<()> {
        let mut record = vec![FUNCTION];
        put_string(code, &mut record);
        self.put(&record)
    }

    /// A key with its value: type and bytes, as [`super::writer`] makes them and a payload has them.
    pub fn key(&mut self, database: u32, key: &[u8], expires_at_ms: u64, value: &[u8]) -> io::Result<()> {
        let mut record = Vec::with_capacity(key.len() + 32);
        if self.database != Some(database) {
            record.push(SELECT);
            put_length(u64::from(database), &mut record);
            self.database = Some(database);
        }
        if expires_at_ms != 0 {
            record.push(EXPIRES_MS);
            record.extend_from_slice(&expires_at_ms.to_le_bytes());
        }
        let (value_type, content) = value.split_first().expect("a value has a type");
        record.push(*value_type);
        put_string(key, &mut record);
        self.put(&record)?;
        self.put(content)
    }

    /// How many bytes were written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the file with its checksum; returns the sink, to be flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(&[END])?;
        let sum = self.sum;
        self.put(&sum.to_le_bytes())?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum = crc64(self.sum, bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}
