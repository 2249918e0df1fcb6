internal import Glibc

/// Owns one file descriptor and nothing else.
struct Descriptor: ~Copyable {
    let number: CInt

    init(adopting number: CInt) { self.number = number }

    deinit { close(number) }
}
