//! An ext4 file system of a test's own, on a loop device.

use crate::TempDir;
use crate::machine::{Need, is_root, program, run};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `EXT4_IOC_SHUTDOWN`, without flushing the journal first.
const SHUT_DOWN: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

/// An image with a file system, mounted until it is dropped.
pub struct LoopDisk {
    image: PathBuf,
    mount_point: PathBuf,
    directory: TempDir,
}

impl LoopDisk {
    /// # Panics
    /// If a loop device cannot be mounted, with a text that says what to do.
    pub fn new(bytes: u64) -> LoopDisk {
        if !is_root() {
            Need::Root.fail("Mounting a file system on a loop device needs root.");
        }
        let directory = TempDir::new("loop");
        let (image, mount_point) = (directory.path().join("image"), directory.path().join("mounted"));
        std::fs::create_dir(&mount_point).expect("the directory is empty");
        let sparse = File::create(&image).and_then(|file| file.set_len(bytes));
        sparse.expect("the temporary directory takes a sparse file");
        let make = program("mkfs.ext4", "e2fsprogs");
        run(Command::new(make).args(["-q", "-F"]).arg(&image)).expect("an image takes a file system");
        let disk = LoopDisk { image, mount_point, directory };
        if let Err(cause) = disk.try_mount() {
            Need::Root.fail(&format!("A loop device cannot be mounted: {cause}"));
        }
        disk
    }

    fn try_mount(&self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mount_point)).map(|_| ())
    }

    /// Mounts it again.
    pub fn mount(&self) {
        self.try_mount().expect("it was mounted before");
    }

    pub fn unmount(&self) {
        run(Command::new("umount").arg(&self.mount_point)).expect("no file is open");
    }

    /// From now on nothing reaches the image, as after a power cut: neither the page cache nor the unwritten
    /// part of the journal.
    pub fn cut(&self) {
        let python = program("python3", "python3");
        run(Command::new(python).args(["-c", SHUT_DOWN]).arg(&self.mount_point)).expect("ext4 has this call");
    }

    /// The root of the file system.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// A directory beside it, on the machine's own disk.
    pub fn beside(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // A test that failed may have left it mounted, and files open.
        _ = Command::new("umount").arg("-l").arg(&self.mount_point).output();
    }
}
