//! nginx as the origin.

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use super::{Running, address, is_listening, program};

/// A running nginx of one process.
#[derive(Debug)]
pub struct Nginx {
    /// Where it listens.
    pub address: SocketAddr,
    running: Option<Running>,
    folder: TempDir,
}

impl Nginx {
    /// One that serves files and answers by the [`standard`] locations as `name`.
    #[track_caller]
    pub fn start(name: &str) -> Self {
        Self::with(name, "", "")
    }

    /// The same with further lines in its `http` block and in its `server` block.
    #[track_caller]
    pub fn with(name: &str, http: &str, server: &str) -> Self {
        let at = address();
        let folder = TempDir::new().unwrap();
        Self::write(folder.path(), at, http, &format!("{}\n{server}", standard(name, at)));
        let mut nginx = Self { address: at, running: None, folder };
        nginx.start_again();
        nginx
    }

    /// One that speaks TLS with the certificate and key at these paths.
    #[track_caller]
    pub fn with_tls(name: &str, certificate: &Path, key: &Path, server: &str) -> Self {
        let at = address();
        let folder = TempDir::new().unwrap();
        let plain = standard(name, at).replace(&format!("listen {at};"), &format!("listen {at} ssl;"));
        let server = format!(
            "{plain}\nssl_certificate {};\nssl_certificate_key {};\n{server}",
            certificate.display(),
            key.display()
        );
        Self::write(folder.path(), at, "", &server);
        let mut nginx = Self { address: at, running: None, folder };
        nginx.start_again();
        nginx
    }

    fn write(folder: &Path, at: SocketAddr, http: &str, server: &str) {
        std::fs::create_dir_all(folder.join("files")).unwrap();
        std::fs::create_dir_all(folder.join("put")).unwrap();
        let here = folder.display();
        let server = server.replace("{folder}", &here.to_string());
        assert!(server.contains(&at.to_string()));
        let config = format!(
            "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log;
            worker_rlimit_nofile 20000;
            events {{ worker_connections 16384; }}
            http {{
                access_log off; default_type text/plain; client_max_body_size 64m;
                keepalive_timeout 60s; keepalive_requests 1000000; reset_timedout_connection off;
                client_body_temp_path {here}/body; proxy_temp_path {here}/proxy;
                fastcgi_temp_path {here}/fastcgi; uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;
                {http}
                server {{ root {here}/files; {server} }}
            }}\n"
        );
        std::fs::write(folder.join("nginx.conf"), config).unwrap();
    }

    /// Its folder; the files that it serves lie in `files`, uploaded ones in `put`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a file where it serves it as `/NAME`.
    pub fn file(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join("files").join(name), bytes).unwrap();
    }

    /// A file that was uploaded by `PUT /put/NAME`.
    pub fn uploaded(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join("put").join(name)).unwrap()
    }

    /// Whether `/put/NAME` was uploaded here.
    pub fn has_uploaded(&self, name: &str) -> bool {
        self.folder.path().join("put").join(name).exists()
    }

    /// Kills it: its connections are reset or closed at once.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Starts it again on the same address.
    #[track_caller]
    pub fn start_again(&mut self) {
        let path = program("nginx", "nginx");
        let folder = self.folder.path().to_path_buf();
        let config = folder.join("nginx.conf");
        let arguments = ["-p", folder.to_str().unwrap(), "-c", config.to_str().unwrap(), "-e", "error.log"];
        let mut running = Running::start("nginx", &path, &arguments, &folder);
        let at = self.address;
        running.wait_until("nginx listens", || is_listening(at));
        self.running = Some(running);
    }

    /// Its process.
    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }
}

/// The locations that every origin has. Files: `/NAME` by length, `/chunked/NAME` chunked.
pub fn standard(name: &str, at: SocketAddr) -> String {
    format!(
        "listen {at};
        location = /whoami {{ return 200 \"{name}\\n\"; }}
        location = /connection {{ return 200 \"$connection $connection_requests\\n\"; }}
        location = /fields {{ return 200 \"host=$http_host\\nfor=$http_x_forwarded_for\\nproto=$http_x_forwarded_proto\\n\
            fhost=$http_x_forwarded_host\\nforwarded=$http_forwarded\\nsubject=$http_x_client_subject\\n\
            tls=$ssl_protocol $ssl_server_name $ssl_client_s_dn\\n\"; }}
        location = /uri {{ return 200 \"$request_method $request_uri\\n\"; }}
        location = /status/204 {{ return 204; }}
        location = /status/404 {{ return 404 \"gone\\n\"; }}
        location = /status/500 {{ return 500 \"broken\\n\"; }}
        location = /status/302 {{ return 302 /elsewhere; }}
        location /chunked/ {{ alias {{folder}}/files/; ssi on; ssi_types *; }}
        location /slow/ {{ alias {{folder}}/files/; limit_rate 200k; }}
        location /put/ {{ alias {{folder}}/put/; dav_methods PUT; }}"
    )
}
