// What OpenSSL calls: thunks, all of them (STYLE.md, R15).

internal import COpenSSL
internal import MeshModel

// swift-format-ignore: AlwaysUseLowerCamelCase
@c func malla_tls_choose(
    _ argument: UnsafeMutableRawPointer?, _ name: UnsafePointer<UInt8>?, _ count: Int,
    _ chosen: UnsafeMutablePointer<OpaquePointer?>?
) -> CInt {
    // Safe: the argument is the TLSNames that the context keeps; the name's bytes are the hello's.
    guard let argument = unsafe argument else { return 0 }
    let names = unsafe Unmanaged<TLSNames>.fromOpaque(argument).takeUnretainedValue()
    // No name, with or without the dot at its end: not worth a copy.
    if count > HostLabels.nameBytesMax + 1 { return 0 }
    let bytes = unsafe UnsafeBufferPointer(start: name, count: count)
    guard let choice = names.find(unsafe hostname(bytes)) else { return 0 }
    if let context = choice.context { unsafe chosen?.pointee = unsafe context.pointer }
    return 1
}

// swift-format-ignore: AlwaysUseLowerCamelCase
@c func malla_tls_release(_ argument: UnsafeMutableRawPointer?) {
    // Safe: this is the reference that TLSServer gave away.
    if let argument = unsafe argument { unsafe Unmanaged<TLSNames>.fromOpaque(argument).release() }
}

/// A server name as names are compared: lower case, without a trailing dot; `nil`: none was given.
private func hostname(_ bytes: UnsafeBufferPointer<UInt8>) -> String? {
    guard !bytes.isEmpty else { return nil }
    let lowered = unsafe bytes.map { $0 &- 0x41 < 26 ? $0 | 0x20 : $0 }
    let name = lowered.last == UInt8(ascii: ".") ? lowered.dropLast() : lowered[...]
    return String(decoding: name, as: UTF8.self)
}
