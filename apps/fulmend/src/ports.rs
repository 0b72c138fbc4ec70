//! The daemon's ear on events.

use fulmen_background_processor::EventHandler;
use fulmen_node::NumberedEvent;
use tokio::sync::mpsc;

/// Queues events for the log.
pub(crate) struct EventQueue(pub(crate) mpsc::UnboundedSender<NumberedEvent>);

impl EventHandler for EventQueue {
    fn handle(&self, event: &NumberedEvent) {
        // Should the log have gone, the event comes again at the next start.
        let _ = self.0.send(event.clone());
    }
}
