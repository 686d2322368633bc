//! Debian's nginx with a configuration of its own.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    child::Process,
    wait::{DEADLINE, wait_until},
    world::{NAME, UPSTREAM, UPSTREAM_V6, World},
};

/// A running nginx.
pub struct Nginx {
    process: Process,
    dir: PathBuf,
}

impl Nginx {
    /// The upstream: port 80 and, with TLS, 443; static files from `DIR/upstream/www`, the rest from the backend.
    ///
    /// # Errors
    /// When nginx is missing or does not start.
    pub fn upstream(world: &World, backend: &Path) -> Result<Self> {
        let dir = world.path("upstream.nginx");
        fs::create_dir_all(dir.join("www"))?;
        let leaf = world.authority().leaf(&[NAME, UPSTREAM, UPSTREAM_V6])?;
        fs::write(dir.join("chain.pem"), &leaf.chain)?;
        fs::write(dir.join("key.pem"), &leaf.key)?;
        let at = dir.display();
        let backend = backend.display();
        let server = format!(
            r#"
            upstream api {{ server unix:{backend}; keepalive 64; }}
            server {{
              listen {UPSTREAM}:80; listen [{UPSTREAM_V6}]:80;
              listen {UPSTREAM}:443 ssl; listen [{UPSTREAM_V6}]:443 ssl;
              server_name {NAME};
              ssl_certificate {at}/chain.pem; ssl_certificate_key {at}/key.pem;
              location /static/ {{ alias {at}/www/; default_type application/json; }}
              location /bench/ {{ alias {at}/www/; default_type application/json; access_log off; }}
              location / {{
                proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection "";
                proxy_set_header Host $host; proxy_buffering off; proxy_request_buffering off;
              }}
            }}"#
        );
        let process = start(world, "nginx", &dir, &server, true)?;
        let nginx = Self { process, dir };
        wait_until("nginx to listen", DEADLINE, || {
            TcpStream::connect_timeout(&([192, 0, 2, 2], 443).into(), Duration::from_secs(1)).is_ok()
        })
        .with_context(|| nginx.process.log())?;
        Ok(nginx)
    }

    /// A reverse proxy on the host for the upstream, as the benchmark's yardstick: plain on `port`, TLS on `port + 1`.
    ///
    /// # Errors
    /// When nginx does not start.
    pub fn reverse_proxy(world: &World, port: u16) -> Result<Self> {
        let dir = world.path("proxy.nginx");
        fs::create_dir_all(&dir)?;
        let leaf = world.authority().leaf(&[NAME, "127.0.0.1"])?;
        fs::write(dir.join("chain.pem"), &leaf.chain)?;
        fs::write(dir.join("key.pem"), &leaf.key)?;
        fs::write(dir.join("roots.pem"), world.authority().pem())?;
        let (at, tls) = (dir.display(), port + 1);
        let server = format!(
            r#"
            upstream plain {{ server {UPSTREAM}:80; keepalive 128; keepalive_requests 100000000; }}
            upstream tls {{ server {UPSTREAM}:443; keepalive 128; keepalive_requests 100000000; }}
            proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host {NAME};
            server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://plain; }} }}
            server {{
              listen 127.0.0.1:{tls} ssl;
              ssl_certificate {at}/chain.pem; ssl_certificate_key {at}/key.pem;
              location / {{
                proxy_pass https://tls; proxy_ssl_name {NAME}; proxy_ssl_server_name on;
                proxy_ssl_verify on; proxy_ssl_trusted_certificate {at}/roots.pem;
              }}
            }}"#
        );
        let process = start(world, "proxy", &dir, &server, false)?;
        let nginx = Self { process, dir };
        wait_until("nginx to listen", DEADLINE, || {
            TcpStream::connect(("127.0.0.1", tls)).is_ok()
        })
        .with_context(|| nginx.process.log())?;
        Ok(nginx)
    }

    /// Puts a file at `/static/NAME`, and at `/bench/NAME`, where requests are not logged.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        Ok(fs::write(self.dir.join("www").join(name), bytes)?)
    }

    /// The requests that arrived, as `METHOD URI STATUS BYTES`.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.join("access.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Its worker processes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn workers(&self) -> Result<Vec<u32>> {
        let pid = self.process.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        Ok(children
            .split_whitespace()
            .filter_map(|c| c.parse().ok())
            .collect())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its workers; a killed one would leave them.
        let _ended_already = self.process.signal(nix::sys::signal::Signal::SIGTERM);
        let _killed_otherwise = self.process.wait(Duration::from_secs(5));
    }
}

fn start(world: &World, name: &str, dir: &Path, server: &str, upstream: bool) -> Result<Process> {
    let program = "/usr/sbin/nginx";
    if !Path::new(program).exists() {
        bail!("{program} is missing: `cargo xtask setup` installs it");
    }
    let at = dir.display();
    let access = if upstream {
        format!("access_log {at}/access.log seen;")
    } else {
        "access_log off;".into()
    };
    let config = format!(
        r#"daemon off; user root; pid {at}/pid; error_log {at}/error.log warn; worker_processes 1; worker_rlimit_nofile 16384;
        events {{ worker_connections 8192; }}
        http {{
          log_format seen '$request_method $request_uri $status $body_bytes_sent';
          {access}
          keepalive_requests 100000000; keepalive_timeout 600s; client_max_body_size 0; sendfile on; tcp_nodelay on;
          client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/f;
          uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
          types {{ application/json json; text/plain txt; }}
          {server}
        }}
        "#
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = if upstream {
        world.upstream(program)
    } else {
        world.host(program)
    };
    command
        .arg("-p")
        .arg(dir)
        .arg("-c")
        .arg(&file)
        .arg("-e")
        .arg(dir.join("error.log"));
    Process::start(name, world.dir(), &mut command)
}
