//! A pointer of one word to either a few bytes or a larger value; the keyspace's entries consist of it.
//!
//! `Box<[u8]>` takes two words, and so does an enum of it and another box. In a table of millions of entries,
//! one word is a tenth of the memory of small keys. Here the length is stored in front of the bytes, and the
//! lowest bit of the pointer distinguishes the two kinds. This is the only file of the engine with unsafe
//! code.

#![allow(unsafe_code, reason = "the pointer of an entry and the bytes that it points to are managed by hand")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// Sizes of allocations are multiples of this, because allocators have no finer size classes.
const UNIT: usize = 16;
/// The alignment of allocations, which keeps the lowest bit of a pointer zero.
const ALIGN: usize = 2;
/// The size of the length, which is stored in front of the bytes as a number of units.
const LENGTH_BYTES: usize = 2;
/// The bit that is set in a pointer to a `T`.
const BOXED: usize = 1;

/// Either bytes, up to [`Thin::BYTES_MAX`], or a `Box<T>`.
pub struct Thin<T> {
    /// If the bit `BOXED` is set, the result of `Box::into_raw` plus that bit; otherwise an allocation made
    /// by `bytes`.
    pointer: NonNull<u8>,
    owned: PhantomData<Box<T>>,
}

// SAFETY: it owns its target, like a `Box<T>` or a `Box<[u8]>`.
unsafe impl<T: Send> Send for Thin<T> {}
// SAFETY: as above; shared access gives shared references only.
unsafe impl<T: Sync> Sync for Thin<T> {}

/// The content of a [`Thin`].
pub enum Ref<'a, T> {
    Bytes(&'a [u8]),
    Boxed(&'a T),
}

/// The content of a [`Thin`], mutable.
pub enum Mut<'a, T> {
    Bytes(&'a mut [u8]),
    Boxed(&'a mut T),
}

fn layout(units: usize) -> Layout {
    Layout::from_size_align(units * UNIT, ALIGN).expect("at most 1 MiB")
}

impl<T> Thin<T> {
    /// The largest length of the bytes.
    pub const BYTES_MAX: usize = u16::MAX as usize * UNIT - LENGTH_BYTES;

    const ALIGNED: () = assert!(align_of::<T>() > BOXED, "the lowest bit of a pointer is free");

    /// The length that `bytes` makes of this one: allocations are rounded up.
    pub fn rounded(bytes: usize) -> usize {
        (bytes + LENGTH_BYTES).next_multiple_of(UNIT) - LENGTH_BYTES
    }

    /// The concatenation of these parts, with zeros up to the [`Thin::rounded`] length.
    ///
    /// # Panics
    /// If the parts have more than `BYTES_MAX` bytes.
    pub fn bytes(parts: &[&[u8]]) -> Thin<T> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        assert!(length <= Thin::<T>::BYTES_MAX, "{length} bytes are too many");
        let units = (length + LENGTH_BYTES).div_ceil(UNIT);
        // SAFETY: the layout has at least one unit, so it is not empty.
        let pointer = unsafe { alloc(layout(units)) };
        let pointer = NonNull::new(pointer).unwrap_or_else(|| handle_alloc_error(layout(units)));
        // SAFETY: the allocation has `units * UNIT` bytes. They are zeroed before a reference to them is
        // made, and no other code has the pointer yet.
        let all = unsafe {
            pointer.as_ptr().write_bytes(0, units * UNIT);
            std::slice::from_raw_parts_mut(pointer.as_ptr(), units * UNIT)
        };
        let (head, mut rest) = all.split_at_mut(LENGTH_BYTES);
        head.copy_from_slice(&(units as u16).to_ne_bytes());
        for part in parts {
            let (target, after) = rest.split_at_mut(part.len());
            target.copy_from_slice(part);
            rest = after;
        }
        Thin { pointer, owned: PhantomData }
    }

    pub fn boxed(value: Box<T>) -> Thin<T> {
        let () = Thin::<T>::ALIGNED;
        let pointer = Box::into_raw(value).cast::<u8>().map_addr(|address| address | BOXED);
        let pointer = NonNull::new(pointer).expect("a box is not null");
        Thin { pointer, owned: PhantomData }
    }

    #[inline]
    fn is_boxed(&self) -> bool {
        self.pointer.addr().get() & BOXED != 0
    }

    #[inline]
    fn as_box(&self) -> *mut T {
        self.pointer.as_ptr().map_addr(|address| address & !BOXED).cast()
    }

    /// The number of units of the allocation of bytes.
    #[inline]
    fn units(&self) -> usize {
        debug_assert!(!self.is_boxed(), "only bytes have a length");
        // SAFETY: without the bit it points to an allocation made by `bytes`, which begins with the length.
        let length = unsafe { self.pointer.cast::<[u8; LENGTH_BYTES]>().read() };
        u16::from_ne_bytes(length).into()
    }

    #[inline]
    pub fn get(&self) -> Ref<'_, T> {
        if self.is_boxed() {
            // SAFETY: with the bit it is the result of `Box::into_raw`, which `self` owns.
            return Ref::Boxed(unsafe { &*self.as_box() });
        }
        let length = self.units() * UNIT - LENGTH_BYTES;
        // SAFETY: the allocation has `length` initialised bytes after its length, and `self` owns it.
        Ref::Bytes(unsafe { std::slice::from_raw_parts(self.pointer.as_ptr().add(LENGTH_BYTES), length) })
    }

    #[inline]
    pub fn get_mut(&mut self) -> Mut<'_, T> {
        if self.is_boxed() {
            // SAFETY: with the bit it is the result of `Box::into_raw`, which `self` owns, and `self` is
            // borrowed exclusively.
            return Mut::Boxed(unsafe { &mut *self.as_box() });
        }
        let length = self.units() * UNIT - LENGTH_BYTES;
        // SAFETY: as in `get`, and `self` is borrowed exclusively. The slice does not include the stored
        // length.
        Mut::Bytes(unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr().add(LENGTH_BYTES), length) })
    }

    /// The box; `Err(self)` if this is bytes.
    pub fn into_box(self) -> Result<Box<T>, Thin<T>> {
        if !self.is_boxed() {
            return Err(self);
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: with the bit it is the result of `Box::into_raw`. `this` is never dropped, so the new box
        // is the only owner.
        Ok(unsafe { Box::from_raw(this.as_box()) })
    }

    /// The size of the allocation; `None` if this is a box.
    pub fn allocated(&self) -> Option<usize> {
        (!self.is_boxed()).then(|| self.units() * UNIT)
    }
}

impl<T> Drop for Thin<T> {
    fn drop(&mut self) {
        if self.is_boxed() {
            // SAFETY: with the bit it is the result of `Box::into_raw`, and nothing uses it after this.
            drop(unsafe { Box::from_raw(self.as_box()) });
        } else {
            // SAFETY: it was allocated with this layout, and nothing uses it after this.
            unsafe { dealloc(self.pointer.as_ptr(), layout(self.units())) };
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Thin<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Ref::Bytes(bytes) => write!(f, "{:?}", bytes.escape_ascii().to_string()),
            Ref::Boxed(value) => value.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn bytes_of_every_length_come_back_and_a_box_is_dropped_once() {
        let counted = Arc::new(());
        for length in (0..200).chain([4_000, Thin::<Arc<()>>::BYTES_MAX]) {
            let content: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let (left, right) = content.split_at(length / 3);
            let mut thin = Thin::<Arc<()>>::bytes(&[left, right]);
            let Mut::Bytes(bytes) = thin.get_mut() else { panic!("bytes") };
            assert_eq!(bytes.len(), Thin::<Arc<()>>::rounded(length));
            assert_eq!(bytes[..length], content);
            assert!(bytes[length..].iter().all(|&byte| byte == 0));
            bytes.fill(7);
            assert!(matches!(thin.get(), Ref::Bytes(bytes) if bytes.iter().all(|&byte| byte == 7)));
            let thin = thin.into_box().expect_err("bytes");
            drop(thin);
            let boxed = Thin::boxed(Box::new(counted.clone()));
            assert!(matches!(boxed.get(), Ref::Boxed(value) if Arc::ptr_eq(value, &counted)));
            assert_eq!((Arc::strong_count(&counted), boxed.allocated()), (2, None));
            match length % 2 {
                0 => drop(boxed),
                _ => drop(boxed.into_box().expect("a box")),
            }
            assert_eq!(Arc::strong_count(&counted), 1);
        }
        assert_eq!(size_of::<Thin<u64>>(), 8);
    }

    #[test]
    #[should_panic(expected = "too many")]
    fn too_many_bytes_are_not_cut_off() {
        drop(Thin::<u64>::bytes(&[&vec![0; Thin::<u64>::BYTES_MAX + 1]]));
    }
}
