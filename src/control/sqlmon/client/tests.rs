//! Logins and answers against a server of a few lines.

use tokio::net::TcpListener;

use super::*;
use crate::mysql::auth::Password;
use crate::mysql::handshake::{write_auth_more, write_auth_switch};

const PASSWORD: &[u8] = b"monitor";
const SCRAMBLE: &Scramble = b"\x01\x02abcdefghijklmnopqr";
const OTHER: &Scramble = b"zyxwvutsrqponmlkjihg";
const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];

fn run<T>(main: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(main)
}

/// What a server does after its greeting.
enum Act {
    /// Waits for a login with an answer that is right for this.
    Login(fn(&[u8]) -> bool),
    /// Waits for a packet that is right for this.
    Take(fn(&[u8]) -> bool),
    /// Says this.
    Say(Vec<u8>),
}

fn greeting(plugin: &[u8]) -> Vec<u8> {
    let capabilities = Capabilities(0xdfff_f7ff);
    let status = crate::mysql::facts::Status::AUTOCOMMIT;
    let (version, connection_id, collation) = (&b"8.4.0"[..], 7, 255);
    let mut out = Vec::new();
    Greeting { version, connection_id, scramble: *SCRAMBLE, capabilities, collation, status, plugin }
        .write(&mut out);
    out
}

fn more(data: &[u8]) -> Act {
    let mut out = Vec::new();
    write_auth_more(&mut out, data);
    Act::Say(out)
}

fn switch(plugin: &[u8], data: &[u8]) -> Act {
    let mut out = Vec::new();
    write_auth_switch(&mut out, plugin, data);
    Act::Say(out)
}

/// The version that a client found, or what went wrong, with a server that greets so and then does this.
fn login(first: Vec<u8>, acts: Vec<Act>) -> Result<u32, String> {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plan = Plan {
            address: Address::Tcp(listener.local_addr().unwrap()),
            host: "127.0.0.1".into(),
            account: SqlAccount { user: "ringgate".into(), password: Password::new(PASSWORD) },
            tls: None,
            send_proxy: None,
        };
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut wire = Wire { stream: Box::new(stream), bytes: Vec::new(), sequence: 0 };
            wire.send(|out| out.extend_from_slice(&first)).await.unwrap();
            for act in acts {
                match act {
                    Act::Say(payload) => wire.send(|out| out.extend_from_slice(&payload)).await.unwrap(),
                    Act::Take(is_right) => {
                        let payload = wire.packet(SQL_LOGIN_BYTES_MAX).await.unwrap();
                        assert!(is_right(&payload), "{payload:?}");
                    }
                    Act::Login(is_right) => {
                        let payload = wire.packet(SQL_LOGIN_BYTES_MAX).await.unwrap();
                        let response = Response::parse(&payload, Capabilities(0xdfff_f7ff)).unwrap();
                        assert!(response.user == b"ringgate" && is_right(response.answer), "{response:?}");
                    }
                }
            }
        };
        let (outcome, ()) = tokio::join!(Client::open(&plan), server);
        outcome.map(|client| client.version.number).map_err(|trouble| trouble.text())
    })
}

fn is_native(answer: &[u8]) -> bool {
    let stored = native::stored_of(&native::secret_of(PASSWORD));
    native::verify(answer, SCRAMBLE, &stored).is_some()
}

fn is_sha2(answer: &[u8]) -> bool {
    let remembered = sha2::remembered_of(&sha2::secret_of(PASSWORD));
    sha2::verify(answer, SCRAMBLE, &remembered).is_some()
}

#[test]
fn logs_in_by_each_plugin() {
    let ok = || Act::Say(OK.to_vec());
    assert_eq!(login(greeting(b"mysql_native_password"), vec![Act::Login(is_native), ok()]), Ok(80_400));
    assert_eq!(login(greeting(b""), vec![Act::Login(is_native), ok()]), Ok(80_400));
    let fast = vec![Act::Login(is_sha2), more(&[3]), ok()];
    assert_eq!(login(greeting(b"caching_sha2_password"), fast), Ok(80_400));
    let is_other = |answer: &[u8]| {
        native::verify(answer, OTHER, &native::stored_of(&native::secret_of(PASSWORD))).is_some()
    };
    let data = [&OTHER[..], b"\0"].concat();
    let acts = vec![Act::Login(is_sha2), switch(b"mysql_native_password", &data), Act::Take(is_other), ok()];
    assert_eq!(login(greeting(b"caching_sha2_password"), acts), Ok(80_400));
    let is_signed = |answer: &[u8]| {
        let key = ed25519::Key::of_password(PASSWORD).public();
        ed25519::verify(answer, &[7; 32], &key)
    };
    let acts = vec![Act::Login(is_native), switch(b"client_ed25519", &[7; 32]), Act::Take(is_signed), ok()];
    assert_eq!(login(greeting(b"mysql_native_password"), acts), Ok(80_400));
    // A default that is not spoken is no hindrance.
    let acts = vec![
        Act::Login(<[u8]>::is_empty),
        switch(b"mysql_native_password", &data),
        Act::Take(is_other),
        ok(),
    ];
    assert_eq!(login(greeting(b"sha256_password"), acts), Ok(80_400));
}

#[test]
fn the_password_goes_encrypted_where_somebody_could_listen() {
    static KEY: std::sync::OnceLock<rsa::ServerKey> = std::sync::OnceLock::new();
    let key = KEY.get_or_init(|| rsa::ServerKey::generate().unwrap());
    let is_wish = |payload: &[u8]| payload == [sha2::REQUEST_PUBLIC_KEY];
    let is_password = |payload: &[u8]| {
        let key = KEY.get().unwrap();
        key.decrypt(payload, SCRAMBLE).is_some_and(|password| password.reveal() == PASSWORD)
    };
    let acts = vec![
        Act::Login(is_sha2),
        more(&[4]),
        Act::Take(is_wish),
        more(key.pem().as_bytes()),
        Act::Take(is_password),
        Act::Say(OK.to_vec()),
    ];
    assert_eq!(login(greeting(b"caching_sha2_password"), acts), Ok(80_400));
    let acts = vec![Act::Login(is_native), switch(b"mysql_clear_password", b"")];
    let error = login(greeting(b"mysql_native_password"), acts).unwrap_err();
    assert_eq!(error, "it wants the password in the clear: set server_tls");
}

#[test]
fn what_goes_wrong_is_said() {
    let native = || greeting(b"mysql_native_password");
    let say = |bytes: &[u8]| vec![Act::Login(is_native), Act::Say(bytes.to_vec())];
    for (first, acts, expected) in [
        (
            native(),
            say(b"\xff\x15\x04#28000Access denied"),
            "it refuses the login: Access denied (1045); check user and password_file of the block's account, and that it \
             exists at the server",
        ),
        (b"\xff\x69\x04Host is blocked\x1b".to_vec(), vec![], "it refuses the login: Host is blocked (1129)"),
        (b"\x09old".to_vec(), vec![], "what it greets with is not MySQL"),
        (native(), vec![], "it closed the connection"),
        (native(), say(b"\xfe"), "its account has a password of before MySQL 4.1"),
        (native(), say(b"\x02"), "what it says to the login cannot be read"),
        (native(), say(b"\xfeclient_ed25519\0short"), "what it sends for client_ed25519 cannot be read"),
        (
            native(),
            say(b"\xfedialog\0"),
            "its account logs in by dialog, which is not spoken: give the account mysql_native_password, \
             caching_sha2_password or ed25519",
        ),
        (
            native(),
            [Act::Login(is_native)].into_iter().chain((0..20).map(|_| more(&[3]))).collect(),
            "its login does not come to an end",
        ),
    ] {
        assert_eq!(login(first, acts), Err(expected.to_owned()));
    }
}
