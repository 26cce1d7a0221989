use super::*;

#[test]
fn versions_are_numbers_and_vendors() {
    let table: &[(&str, Option<(Vendor, u32)>)] = &[
        ("5.5.5-10.11.19-MariaDB-0+deb12u1-log", Some((Vendor::MariaDb, 101_119))),
        ("11.8.3-MariaDB", Some((Vendor::MariaDb, 110_803))),
        ("9.7.4", Some((Vendor::MySql, 90_704))),
        ("8.0.36-28", Some((Vendor::MySql, 80_036))),
        ("5.7.44-log", Some((Vendor::MySql, 50_744))),
        ("5.5.5-m3", None),
        ("8.0", None),
        ("", None),
        ("8.0.1000", None),
        ("99999999999.1.1", None),
        ("x8.0.1", None),
    ];
    for (text, expected) in table {
        let found = Version::parse(text.as_bytes());
        assert_eq!(found, expected.map(|(vendor, number)| Version { vendor, number }), "{text}");
    }
}

#[test]
fn dangerous_character_sets_are_known_by_id_and_name() {
    // Names of collations and ids as information_schema.collations of both vendors has them.
    let table = [
        (33, None),
        (45, None),
        (255, None),
        (8, None),
        (28, Some(Multibyte::Gbk)),
        (84, Some(Multibyte::Big5)),
    ];
    for (id, expected) in table {
        assert_eq!(Multibyte::of_collation(id), expected, "{id}");
    }
    assert_eq!(Multibyte::of_name(b"GBK"), Some(Multibyte::Gbk));
    assert_eq!(Multibyte::of_name(b"gb2312"), None);
    let ids: Vec<u16> = (0..2048).filter(|id| Multibyte::of_collation(*id).is_some()).collect();
    let expected =
        [1, 13, 28, 84, 87, 88, 95, 96, 248, 249, 250, 1025, 1037, 1052, 1108, 1111, 1112, 1119, 1120];
    assert_eq!(ids, expected);
}

#[test]
fn capabilities_have_two_halves_and_names() {
    let both = Capabilities::SSL | Capabilities::MARIADB_BULK;
    assert_eq!((both.mysql(), both.mariadb()), (0x800, 4));
    assert!(both.has(Capabilities::SSL) && !both.has(Capabilities::SSL | Capabilities::COMPRESS));
    assert_eq!(format!("{both:?}"), "{\"SSL\", \"MARIADB_BULK\"}");
    assert_eq!(both.without(Capabilities::SSL) & both, Capabilities::MARIADB_BULK);
}

#[test]
fn capabilities_are_those_of_another_implementation() {
    use mysql_common::constants::CapabilityFlags as Theirs;
    let pairs = [
        (Capabilities::MYSQL, Theirs::CLIENT_LONG_PASSWORD),
        (Capabilities::CONNECT_WITH_DB, Theirs::CLIENT_CONNECT_WITH_DB),
        (Capabilities::COMPRESS, Theirs::CLIENT_COMPRESS),
        (Capabilities::LOCAL_FILES, Theirs::CLIENT_LOCAL_FILES),
        (Capabilities::PROTOCOL_41, Theirs::CLIENT_PROTOCOL_41),
        (Capabilities::SSL, Theirs::CLIENT_SSL),
        (Capabilities::SECURE_CONNECTION, Theirs::CLIENT_SECURE_CONNECTION),
        (Capabilities::MULTI_RESULTS, Theirs::CLIENT_MULTI_RESULTS),
        (Capabilities::PLUGIN_AUTH, Theirs::CLIENT_PLUGIN_AUTH),
        (Capabilities::CONNECT_ATTRS, Theirs::CLIENT_CONNECT_ATTRS),
        (Capabilities::PLUGIN_AUTH_LENENC, Theirs::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA),
        (Capabilities::SESSION_TRACK, Theirs::CLIENT_SESSION_TRACK),
        (Capabilities::DEPRECATE_EOF, Theirs::CLIENT_DEPRECATE_EOF),
        (Capabilities::ZSTD, Theirs::CLIENT_ZSTD_COMPRESSION_ALGORITHM),
        (Capabilities::QUERY_ATTRIBUTES, Theirs::CLIENT_QUERY_ATTRIBUTES),
        (Capabilities::MULTI_FACTOR_AUTHENTICATION, Theirs::MULTI_FACTOR_AUTHENTICATION),
    ];
    for (ours, theirs) in pairs {
        assert_eq!(ours.mysql(), theirs.bits(), "{ours:?}");
    }
}

#[test]
fn forms_are_those_of_the_version() {
    let of = |text: &str| Capabilities::forms_of(Version::parse(text.as_bytes()).unwrap());
    let (bulk, extended) = (Capabilities::MARIADB_BULK, Capabilities::MARIADB_EXTENDED_METADATA);
    assert_eq!(of("8.0.22"), Capabilities::NONE);
    assert_eq!(of("8.0.23"), Capabilities::QUERY_ATTRIBUTES);
    assert_eq!(of("9.7.4"), Capabilities::QUERY_ATTRIBUTES);
    assert_eq!(of("5.5.5-10.4.3-MariaDB"), bulk);
    assert_eq!(of("5.5.5-10.11.19-MariaDB-log"), bulk | extended);
    assert_eq!(of("11.8.1-MariaDB"), bulk | extended | Capabilities::MARIADB_BULK_UNIT_RESULTS);
    assert!(Capabilities::FORMS.has(of("11.8.1-MariaDB") | of("9.7.4")));
}
