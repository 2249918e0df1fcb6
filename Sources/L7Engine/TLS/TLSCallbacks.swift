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
    // No host's name: not worth a copy.
    if count > HostLabels.nameBytesMax { return 0 }
    let hostname = unsafe name.map {
        unsafe String(decoding: UnsafeBufferPointer(start: $0, count: count), as: UTF8.self)
    }
    guard let choice = names.find(hostname) else { return 0 }
    if let context = choice.context { unsafe chosen?.pointee = unsafe context.pointer }
    return 1
}

// swift-format-ignore: AlwaysUseLowerCamelCase
@c func malla_tls_release(_ argument: UnsafeMutableRawPointer?) {
    // Safe: this is the reference that TLSServer gave away.
    if let argument = unsafe argument { unsafe Unmanaged<TLSNames>.fromOpaque(argument).release() }
}
