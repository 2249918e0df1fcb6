internal import Glibc

/// Owns one file descriptor and nothing else.
public struct Descriptor: ~Copyable {
    public let number: Int32

    public init(adopting number: Int32) { self.number = number }
    deinit { close(number) }

    /// Gives the descriptor to the caller, who closes it.
    public consuming func release() -> Int32 {
        let number = self.number
        discard self
        return number
    }
}
