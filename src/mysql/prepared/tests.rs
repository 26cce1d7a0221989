use super::*;
use crate::mysql::wire::put_lenenc_bytes;

const NONE: Capabilities = Capabilities::NONE;
const ATTRIBUTES: Capabilities = Capabilities::QUERY_ATTRIBUTES;

#[test]
fn prepare_ok_comes_back_as_written() {
    let prepared = PrepareOk { statement: 0x0102_0304, columns: 5, parameters: 700, warnings: 1 };
    let mut out = Vec::new();
    prepared.write(&mut out);
    assert_eq!(out.len(), 12);
    assert_eq!(PrepareOk::parse(&out), Ok(prepared));
    for end in 0..out.len() {
        assert_eq!(PrepareOk::parse(&out[..end]).unwrap_err().reason, BadPacket::Short);
    }
    patch_statement(&mut out, 9).unwrap();
    assert_eq!(PrepareOk::parse(&out), Ok(PrepareOk { statement: 9, ..prepared }));
    assert_eq!(patch_statement(&mut out[..4], 9), Err(Bad::new(BadPacket::Short, 1)));
}

/// The head of an execution, then bitmap, flag, types and values.
fn execution(parameters: &[u8], nulls: usize, bound: Option<&[u8]>, values: &[u8]) -> Vec<u8> {
    let mut out = b"\x17\x07\0\0\0\0\x01\0\0\0".to_vec();
    out.extend_from_slice(parameters);
    out.extend(std::iter::repeat_n(0, nulls));
    if nulls > 0 {
        out.push(u8::from(bound.is_some()));
    }
    out.extend_from_slice(bound.unwrap_or_default());
    out.extend_from_slice(values);
    out
}

#[test]
fn types_are_found_and_put_back() {
    for parameters in [1_u16, 7, 8, 9, 200] {
        let nulls = usize::from(parameters).div_ceil(8);
        let types: Vec<u8> = (0..2 * parameters).map(|index| index as u8).collect();
        let with = execution(b"", nulls, Some(&types), b"values");
        let without = execution(b"", nulls, None, b"values");
        let first = Execute::parse(&with, parameters, NONE).unwrap();
        assert_eq!((first.statement, first.iterations, first.nulls.clone()), (7, 1, 10..10 + nulls));
        assert_eq!(&with[first.types.clone().unwrap()], types);
        let again = Execute::parse(&without, parameters, NONE).unwrap();
        assert_eq!((again.types.clone(), again.bound_at), (None, Some(10 + nulls)));
        let mut out = Vec::new();
        again.write_with_types(&mut out, &without, &types);
        assert_eq!(out, with);
        for end in 0..first.types.unwrap().end {
            let cut = Execute::parse(&with[..end], parameters, NONE);
            assert_eq!(cut.unwrap_err().reason, BadPacket::Short, "{end}");
        }
    }
}

#[test]
fn executions_without_parameters_end_early() {
    let payload = execution(b"", 0, None, b"");
    let found = Execute::parse(&payload, 0, NONE).unwrap();
    assert_eq!((found.bound_at, found.types.clone()), (None, None));
    let mut out = Vec::new();
    found.write_with_types(&mut out, &payload, b"types");
    assert_eq!(out, payload);
}

#[test]
fn query_attributes_are_parameters_with_names() {
    let mut types = b"\xfd\0".to_vec();
    put_lenenc_bytes(&mut types, b"");
    types.extend_from_slice(b"\x03\x80");
    put_lenenc_bytes(&mut types, b"trace");
    let mut payload = execution(b"\x02", 1, Some(&types), b"\x01x\x01\0\0\0");
    payload[5] = flags::PARAMETER_COUNT_AVAILABLE;
    let found = Execute::parse(&payload, 1, ATTRIBUTES).unwrap();
    assert_eq!((found.parameters, found.nulls.clone()), (2, 11..12));
    assert_eq!(&payload[found.types.unwrap()], types);
    // A statement without parameters has them too, if it says so.
    let found = Execute::parse(&payload, 0, ATTRIBUTES).unwrap();
    assert_eq!(found.parameters, 2);
    payload[5] = 0;
    assert_eq!(Execute::parse(&payload, 0, ATTRIBUTES).unwrap().parameters, 0);
    let lie = execution(b"\xfd\xff\xff\xff", 1, Some(&types), b"");
    assert_eq!(Execute::parse(&lie, 1, ATTRIBUTES), Err(Bad::new(BadPacket::Value, 10)));
}

#[test]
fn bulk_executions_have_their_types_at_the_front() {
    let with = b"\xfa\x07\0\0\0\xc0\0\x03\0\x0f\0rows".to_vec();
    let without = b"\xfa\x07\0\0\0\x40\0rows".to_vec();
    let first = BulkExecute::parse(&with, 2).unwrap();
    let expected = BulkExecute { statement: 7, flags: 192, types: Some(7..11) };
    assert_eq!(first, expected);
    for end in 0..11 {
        assert_eq!(BulkExecute::parse(&with[..end], 2).unwrap_err().reason, BadPacket::Short);
    }
    let again = BulkExecute::parse(&without, 2).unwrap();
    assert_eq!((again.types.clone(), again.flags), (None, BulkExecute::UNIT_RESULTS));
    let mut out = Vec::new();
    again.write_with_types(&mut out, &without, b"\x03\0\x0f\0");
    assert_eq!(out, with);
}
