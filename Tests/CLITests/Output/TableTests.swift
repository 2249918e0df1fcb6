import Testing

@testable import CLI

@Suite("A table is as wide as its widest cells")
struct TableTests {
    static let table = Table(
        [.init("NAME"), .init("PORT", .right), .init("NOTE")],
        rows: [
            [Cell("cart"), Cell(80), Cell("")],
            [Cell("catalog-v2"), Cell(15020), Cell("größer", .bad)],
        ])

    @Test func `columns line up, numbers to the right, and no line ends in blanks`() {
        #expect(
            Self.table.lines(colour: false) == [
                "NAME         PORT  NOTE",
                "cart           80  -",
                "catalog-v2  15020  größer",
            ])
    }

    @Test func `colour changes no width and is only where a cell means something`() {
        let lines = Self.table.lines(colour: true)
        #expect(lines[0] == "NAME         PORT  NOTE")
        #expect(lines[2] == "catalog-v2  15020  \u{1B}[31mgrößer\u{1B}[0m")
    }

    @Test(arguments: [
        (0, "0s"), (12, "12s"), (69, "1m9s"), (3600, "1h"), (3725, "1h2m"), (273_600, "3d4h"),
    ])
    func `a duration shows its two largest units`(seconds: Int, text: String) {
        #expect(Status.duration(seconds: seconds) == text)
    }
}
