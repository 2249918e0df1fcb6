// What the kernel's verifier refuses, and how that is told to people.

import Testing

@testable import BPFLoader

@Suite("An object that the kernel refuses")
struct RejectionTests {
    @Test func `a program is refused in one line, with the verifier's own words`() throws {
        var image = BPFObject.embedded
        let section = try #require(Self.offset(of: "cgroup/connect4", in: image))
        image[section] = 0xff  // no instruction has this code

        let error = Self.refusal(of: image, sizes: [:])

        #expect(error.contains("the kernel refused an eBPF program: Invalid argument"), "\(error)")
        #expect(error.contains("unknown opcode ff"), "\(error)")
        #expect(!error.contains("\n"), "\(error)")
    }

    @Test func `maps that are too large are named with their rows, and no program is blamed`() {
        let error = Self.refusal(of: BPFObject.embedded, sizes: ["malla_pod": .max])

        #expect(error.contains("refused to make the maps"), "\(error)")
        #expect(error.contains("malla_pod with 4294967295 rows"), "\(error)")
        #expect(!error.contains("program"), "\(error)")
    }

    private static func refusal(of image: [UInt8], sizes: [String: UInt32]) -> String {
        do throws(BPFError) {
            _ = try BPFObject.load(sizes: sizes, directory: "/nowhere", image: image)
            return "it was loaded"
        } catch {
            return error.description
        }
    }

    /// Where a section's bytes begin in a 64-bit little-endian ELF file. Source: elf(5).
    private static func offset(of section: String, in image: [UInt8]) -> Int? {
        func number(_ at: Int, _ bytes: Int) -> Int {
            (0..<bytes).reduce(0) { $0 | Int(image[at + $1]) << (8 * $1) }
        }
        let headers = number(0x28, 8)
        func header(_ index: Int) -> Int { headers + index * number(0x3a, 2) }
        let names = number(header(number(0x3e, 2)) + 0x18, 8)
        for index in 0..<number(0x3c, 2) {
            let start = names + number(header(index), 4)
            let name = image[start...].prefix { $0 != 0 }
            if String(decoding: name, as: UTF8.self) == section {
                return number(header(index) + 0x18, 8)
            }
        }
        return nil
    }
}
