//! Metrics and health over HTTP, on loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::admin::{Command, Desk};
use crate::daemon::{Status, Surroundings};
use crate::metrics::Metrics;

/// What the pages show.
#[derive(Clone)]
struct Shown {
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    desk: Arc<Desk>,
    pipeline: Arc<str>,
}

/// Header that a command must carry, with the pipeline's name: a page in somebody's browser cannot send it.
pub const PIPELINE_HEADER: &str = "x-driftmill-pipeline";

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
pub fn serve(
    listener: TcpListener,
    pipeline: &str,
    around: &Surroundings,
    ended: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = std::io::Result<()>> + Send + 'static {
    let shown = Shown {
        metrics: Arc::clone(&around.metrics),
        status: Arc::clone(&around.status),
        desk: Arc::clone(&around.desk),
        pipeline: pipeline.into(),
    };
    let app = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(show_ready))
        .route("/admin/rollback", post(roll_back))
        .route("/admin/readmit", post(readmit))
        .with_state(shown);
    async move { axum::serve(listener, app).with_graceful_shutdown(ended).await }
}

async fn roll_back(shown: State<Shown>, headers: HeaderMap) -> Response {
    command(shown, &headers, Command::RollBack).await
}

async fn readmit(shown: State<Shown>, headers: HeaderMap) -> Response {
    command(shown, &headers, Command::Readmit).await
}

async fn command(State(shown): State<Shown>, headers: &HeaderMap, command: Command) -> Response {
    let named = headers.get(PIPELINE_HEADER).and_then(|name| name.to_str().ok());
    if named != Some(&*shown.pipeline) {
        let what = format!("a command needs the header {PIPELINE_HEADER} with the name of the pipeline\n");
        return (StatusCode::FORBIDDEN, what).into_response();
    }
    let desk = Arc::clone(&shown.desk);
    match tokio::task::spawn_blocking(move || desk.ask(command)).await {
        Ok(Ok(done)) => (StatusCode::OK, format!("{done}\n")).into_response(),
        Ok(Err(why)) => (StatusCode::CONFLICT, format!("{why}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
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
