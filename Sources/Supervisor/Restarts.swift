/// When the next child is started, as a value: told of each death, answers how long to wait.
///
/// - Units: milliseconds on any steady clock.
struct Restarts: Equatable {
    /// Deaths so far.
    private(set) var count: UInt32 = 0
    private var quickDeaths: UInt32 = 0

    /// A child that lived this long was no crash loop.
    static let shortLife: Int64 = 1_000
    static let waitMax: Int64 = 5_000

    /// - Returns: how long to wait: nothing at first, then 100 ms doubled up to five seconds while
    ///   children die young.
    mutating func died(afterMilliseconds age: Int64) -> Int64 {
        count &+= 1
        guard age < Self.shortLife else {
            quickDeaths = 0
            return 0
        }
        defer { quickDeaths = min(quickDeaths + 1, 16) }
        return quickDeaths == 0 ? 0 : min(Self.waitMax, 100 << Int64(quickDeaths - 1))
    }
}
