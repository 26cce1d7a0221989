use super::*;

#[test]
fn length_encoded_integers_have_five_forms() {
    type Row = (&'static [u8], Result<Option<u64>, BadPacket>);
    let table: &[Row] = &[
        (b"", Err(BadPacket::Short)),
        (b"\x00", Ok(Some(0))),
        (b"\xfa", Ok(Some(250))),
        (b"\xfb", Ok(None)),
        (b"\xfc\xfb\x00", Ok(Some(251))),
        (b"\xfc\xff", Err(BadPacket::Short)),
        (b"\xfd\x00\x00\x01", Ok(Some(65_536))),
        (b"\xfd\x00\x00", Err(BadPacket::Short)),
        (b"\xfe\x00\x00\x00\x01\x00\x00\x00\x00", Ok(Some(1 << 24))),
        (b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff", Ok(Some(u64::MAX))),
        (b"\xfe\x00\x00\x00\x01\x00\x00\x00", Err(BadPacket::Short)),
        (b"\xff", Err(BadPacket::Lenenc)),
    ];
    for (bytes, expected) in table {
        let mut reader = Reader::new(bytes);
        let found = reader.lenenc_or_null();
        assert_eq!(
            found.map_err(|bad| (bad.reason, bad.at)),
            expected.map_err(|reason| (reason, 0)),
            "{bytes:?}"
        );
        assert_eq!(reader.at(), if found.is_ok() { bytes.len() } else { 0 });
        let value = Reader::new(bytes).lenenc().map_err(|bad| bad.reason);
        assert_eq!(value, expected.and_then(|number| number.ok_or(BadPacket::Lenenc)), "{bytes:?}");
    }
}

#[test]
fn what_is_written_is_read() {
    for number in [0, 250, 251, 255, 256, 65_535, 65_536, 0xff_ffff, 0x100_0000, u64::MAX] {
        let mut out = Vec::new();
        put_lenenc(&mut out, number);
        assert_eq!(out.len(), lenenc_len(number));
        assert_eq!(Reader::new(&out).lenenc(), Ok(number));
    }
    for length in [0, 1, 250, 251, 70_000] {
        let (bytes, mut out) = (vec![7; length], Vec::new());
        put_lenenc_bytes(&mut out, &bytes);
        put_nul(&mut out, b"abc\0d");
        put_u16(&mut out, 0x0102);
        put_u24(&mut out, 0x0a0b_0c0d);
        put_u32(&mut out, 0x0102_0304);
        put_u64(&mut out, 5);
        out.extend_from_slice(b"tail");
        let mut reader = Reader::new(&out);
        assert_eq!(reader.lenenc_bytes(), Ok(&bytes[..]));
        assert_eq!(reader.nul(), Ok(&b"abc"[..]));
        assert_eq!(reader.u16(), Ok(0x0102));
        assert_eq!(reader.u24(), Ok(0x000b_0c0d));
        assert_eq!(reader.u32(), Ok(0x0102_0304));
        assert_eq!(reader.u64(), Ok(5));
        assert_eq!((reader.peek(), reader.left()), (Some(b't'), 4));
        assert_eq!(reader.eof(), b"tail");
        assert!(reader.is_empty() && reader.peek().is_none());
    }
}

#[test]
fn a_failed_read_does_not_move() {
    let mut reader = Reader::new(b"\x05abc");
    assert_eq!(reader.lenenc_bytes(), Err(Bad::new(BadPacket::Short, 0)));
    assert_eq!(reader.bytes(5), Err(Bad::new(BadPacket::Short, 0)));
    assert_eq!(reader.bytes(usize::MAX), Err(Bad::new(BadPacket::Short, 0)));
    assert_eq!(reader.u64(), Err(Bad::new(BadPacket::Short, 0)));
    assert_eq!(reader.nul(), Err(Bad::new(BadPacket::NoNul, 0)));
    assert_eq!(reader.u8(), Ok(5));
    assert_eq!(reader.u32(), Err(Bad::new(BadPacket::Short, 1)));
    assert_eq!(reader.nul_or_eof(), b"abc");
    let mut huge = Reader::new(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xffabc");
    assert_eq!(huge.lenenc_bytes(), Err(Bad::new(BadPacket::Short, 0)));
    assert_eq!(Reader::new(b"\xfb").lenenc_bytes(), Err(Bad::new(BadPacket::Lenenc, 0)));
}
