//! The first Ctrl-C (or SIGTERM) finishes cleanly, the second one exits at once.

use std::thread;

use tokio::signal::unix::{SignalKind, signal};

/// Calls `finish` at the first signal and exits with code 1 at the second.
///
/// # Errors
/// When the operating system gives no signals or no thread.
pub(super) fn on_signal(finish: impl Fn() + Send + 'static) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    // Signals are taken over before this returns, so that none is missed.
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(guard);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let mut seen = 0;
            loop {
                tokio::select! {
                    got = interrupt.recv() => if got.is_none() { return },
                    got = terminate.recv() => if got.is_none() { return },
                }
                seen += 1;
                if seen > 1 {
                    std::process::exit(1);
                }
                finish();
                tracing::info!("finishing; once more to exit at once");
            }
        });
    })?;
    Ok(())
}
