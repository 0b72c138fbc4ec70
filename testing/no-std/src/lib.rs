//! The whole heart in a program without the standard library.
#![no_std]

use core::panic::PanicInfo;

pub use fulmen_invoice as invoice;
pub use fulmen_node as node;
pub use fulmen_noise as noise;
pub use fulmen_offers as offers;
pub use fulmen_onion as onion;
pub use fulmen_types as types;
pub use fulmen_wire as wire;

#[global_allocator]
static ALLOCATOR: linked_list_allocator::LockedHeap = linked_list_allocator::LockedHeap::empty();

#[panic_handler]
fn stop(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
