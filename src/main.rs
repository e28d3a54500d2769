//! Composition root: the only file that names every module.

fn main() {
    println!("engramdb");
}
