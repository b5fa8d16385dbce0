//! Metrics and health over HTTP, on loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::daemon::Status;
use crate::metrics::Metrics;

/// What the pages show.
#[derive(Clone)]
struct Shown {
    metrics: Arc<Metrics>,
    status: Arc<Status>,
}

/// Takes the address.
///
/// # Errors
/// A port in use, or an address that this machine does not have.
pub async fn bind(listen: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(listen).await.map_err(|error| {
        format!("cannot listen on {listen}: {error}; choose another port for `listen` in [http], or end what uses it")
    })
}

/// Serves until `ended` completes.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    ended: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(show_ready))
        .with_state(Shown { metrics, status });
    axum::serve(listener, app).with_graceful_shutdown(ended).await
}

async fn show_metrics(State(shown): State<Shown>) -> Response {
    match shown.metrics.render() {
        Ok(text) => (
            [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn show_ready(State(shown): State<Shown>) -> Response {
    let phase = format!("{}\n", shown.status.phase());
    let code = if shown.status.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, phase).into_response()
}
