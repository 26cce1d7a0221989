//! PROXY protocol headers: prefixes need more, and what is written parses to the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::proxyproto::{Header, Parse, V2_BYTES_MAX, Version, parse, write};

fuzz_target!(|bytes: &[u8]| {
    match parse(bytes) {
        Parse::NeedMore => assert!(bytes.len() < V2_BYTES_MAX),
        Parse::Bad(bad, at) => {
            assert!(at < bytes.len());
            // More bytes make nothing better, and the verdict stays.
            let more = [bytes, b"\r\n"].concat();
            assert!(matches!(parse(&more), Parse::Bad(..)), "{bad:?}");
        }
        Parse::Done(header, used) => {
            assert!(used <= bytes.len());
            for end in 0..used {
                assert_eq!(parse(&bytes[..end]), Parse::NeedMore);
            }
            assert_eq!(parse(&bytes[..used]), Parse::Done(header, used));
            for version in [Version::V1, Version::V2] {
                write_and_parse(version, &header);
            }
        }
    }
});

fn write_and_parse(version: Version, header: &Header) {
    let bytes = write(version, header.source, header.destination);
    let Parse::Done(again, used) = parse(&bytes) else { panic!("{bytes:?}") };
    assert_eq!(used, bytes.len());
    let (Some(source), Some(destination)) = (header.source, header.destination) else {
        assert_eq!((again.source, again.destination), (None, None));
        return;
    };
    for (written, read) in [(Some(source), again.source), (Some(destination), again.destination)] {
        let canonical =
            |end: Option<std::net::SocketAddr>| end.map(|end| (end.ip().to_canonical(), end.port()));
        assert_eq!(canonical(written), canonical(read));
    }
}
