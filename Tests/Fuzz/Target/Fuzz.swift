// libFuzzer's door: MALLA_FUZZ_CHECK names the check (request, response, chunks, relay).

import Glibc

private let check: FuzzCheck = {
    let name = unsafe getenv("MALLA_FUZZ_CHECK").map { unsafe String(cString: $0) } ?? "request"
    guard let check = FuzzCheck(rawValue: name) else { fatalError("no such check: \(name)") }
    return check
}()

/// libFuzzer's own main loop (FuzzerInterface.h).
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ one: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// The package manager takes `main` for its own name of a program's start, which is this one.
@_cdecl("Fuzz_main")
public func start(
    _ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
) -> CInt {
    var (count, arguments) = unsafe (count, arguments)
    return unsafe runDriver(&count, &arguments) { bytes, length in
        // libFuzzer promises `length` readable bytes for the time of the call.
        check.run(unsafe Array(UnsafeBufferPointer(start: bytes, count: length)))
        return 0
    }
}
