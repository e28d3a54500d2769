//! The first reading of a file: whether it is whole, and what is in it.

use super::error::MoveError;
use super::files::FileReader;
use super::progress::ProgressLine;
use super::tally::TypeCounts;
use engramdb_engine::env::Env;
use engramdb_engine::keyspace::DataTypes;
use engramdb_rdb::{KeyHeader, RdbError, RdbFile, RdbRecord, ValueKind, ValuePart, module_name};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What is in a file.
#[derive(Debug, Default)]
pub struct Survey {
    pub tally: TypeCounts,
    /// Notes of the writer: its version, when it was written.
    pub notes: BTreeMap<String, String>,
    pub functions: u64,
    pub databases: BTreeSet<u64>,
    /// Types of modules that are not known here, each with its number of keys.
    pub unknown_types: BTreeMap<String, u64>,
    /// Modules that have stored something beside keys.
    pub module_notes: BTreeSet<String>,
    /// Keys without elements, which Redis ignores too.
    pub empty: u64,
    pub bytes: u64,
}

impl Survey {
    /// Reads the whole file.
    ///
    /// # Errors
    /// Damage anywhere in it.
    pub fn make(
        env: &Env,
        path: &Path,
        types: &DataTypes,
        line: &mut ProgressLine,
    ) -> Result<Survey, MoveError> {
        let (reader, size) = FileReader::open(&*env.disk, path)?;
        let mut survey = Survey { bytes: size, ..Survey::default() };
        let mut key = Vec::new();
        let opened = RdbFile::open(reader);
        let failed = |error, position, key| MoveError::Rdb { file: path.to_owned(), error, position, key };
        let mut file = opened.map_err(|error| failed(error, 0, Vec::new()))?;
        loop {
            let done = survey.step(&mut file, types, &mut key);
            if done.map_err(|error| failed(error, file.position(), std::mem::take(&mut key)))? {
                return Ok(survey);
            }
            line.show("checking", (file.position(), size), survey.tally.keys());
        }
    }

    /// Reads one record; true at the end.
    fn step(
        &mut self,
        file: &mut RdbFile<FileReader>,
        types: &DataTypes,
        key: &mut Vec<u8>,
    ) -> Result<bool, RdbError> {
        key.clear();
        match file.next_record()? {
            RdbRecord::End => return Ok(true),
            RdbRecord::Aux { name, value } => {
                let [name, value] = [name, value].map(|text| String::from_utf8_lossy(&text).into_owned());
                self.notes.insert(name, value);
            }
            RdbRecord::Function(_) => self.functions += 1,
            RdbRecord::ModuleAux { id } => {
                file.items(&mut |_| {})?;
                self.module_notes.insert(module_name(id).0);
            }
            RdbRecord::Key(header) => {
                key.clone_from(&header.key);
                self.key(file, &header, types)?;
            }
        }
        Ok(false)
    }

    fn key(
        &mut self,
        file: &mut RdbFile<FileReader>,
        header: &KeyHeader,
        types: &DataTypes,
    ) -> Result<(), RdbError> {
        let (mut parts, mut module) = (0, None);
        file.value(header, &mut |part| {
            parts += u64::from(part.is_content());
            if let ValuePart::Module { id } = part {
                module = Some(module_name(id).0);
            }
            Ok(())
        })?;
        self.databases.insert(header.database);
        match module {
            Some(name) if types.of_module(&name).is_some() => self.tally.add(&name, 1),
            Some(name) => *self.unknown_types.entry(name).or_default() += 1,
            // A stream without entries is one.
            None if parts == 0 && header.kind() != Some(ValueKind::Stream) => self.empty += 1,
            None => self.tally.add(header.kind().map_or("", ValueKind::name), parts),
        }
        Ok(())
    }
}
