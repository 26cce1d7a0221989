//! Commands of a MySQL client: views stay within the payload, and a re-execution gets its types.
//!
//! The first three bytes are a capability and the number of parameters.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::mysql::command::Command;
use ringgate::mysql::facts::Capabilities;
use ringgate::mysql::prepared::{BulkExecute, Execute, PrepareOk, patch_statement};

fuzz_target!(|input: &[u8]| {
    let [flag, low, high, payload @ ..] = input else { return };
    let parameters = u16::from_le_bytes([*low, *high]);
    let capabilities = if flag & 1 == 1 { Capabilities::QUERY_ATTRIBUTES } else { Capabilities::NONE };
    if let Ok(Command::Query(query)) = Command::parse(payload, capabilities) {
        assert_eq!(&payload[query.text_at..], query.text);
    }
    if let Ok(execute) = Execute::parse(payload, parameters, capabilities) {
        assert!(execute.nulls.end <= payload.len());
        if let (None, Some(bound_at)) = (&execute.types, execute.bound_at) {
            let unnamed =
                vec![0; if capabilities == Capabilities::NONE { 2 } else { 3 } * execute.parameters];
            let mut out = Vec::new();
            execute.write_with_types(&mut out, payload, &unnamed);
            let Ok(again) = Execute::parse(&out, parameters, capabilities) else { panic!("{out:?}") };
            assert_eq!(again.types, Some(bound_at + 1..bound_at + 1 + unnamed.len()));
            assert_eq!(out.len(), payload.len() + unnamed.len());
        }
        if let Some(types) = execute.types {
            assert!(types.end <= payload.len());
        }
    }
    if let Ok(bulk) = BulkExecute::parse(payload, parameters) {
        assert!(bulk.types.is_none_or(|types| types.end <= payload.len()));
    }
    if let Ok(prepared) = PrepareOk::parse(payload) {
        let mut patched = payload.to_vec();
        assert!(patch_statement(&mut patched, 7).is_ok());
        assert_eq!(PrepareOk::parse(&patched), Ok(PrepareOk { statement: 7, ..prepared }));
    }
});
