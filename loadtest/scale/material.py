"""Certificates, keys and revocation lists: as many and as large as are asked for, made with the `openssl` program."""
import datetime
import os
import subprocess

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
CA_EXTENSIONS = ["basicConstraints=critical,CA:true", "keyUsage=critical,keyCertSign,cRLSign"]

INTEGER, BIT_STRING, OCTET_STRING, OID, SEQUENCE, UTC_TIME = 0x02, 0x03, 0x04, 0x06, 0x30, 0x17
# RFC 5758 §3.2, and RFC 5280 §4.2.1.1 and §5.2.3.
ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
AUTHORITY_KEY_IDENTIFIER, CRL_NUMBER = b"\x55\x1d\x23", b"\x55\x1d\x14"
# How a certificate says subjectKeyIdentifier, up to its twenty octets.
SUBJECT_KEY_IDENTIFIER = bytes.fromhex("0603551d0e04160414")


def openssl(directory, *arguments, data=None):
    return subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, input=data).stdout


def authority(directory, name):
    """A CA: NAME.pem and NAME.key."""
    extensions = [part for extension in CA_EXTENSIONS for part in ("-addext", extension)]
    # Without a file of its own, the system's would add a second basicConstraints.
    openssl(directory, "req", "-x509", "-config", os.devnull, *KEY, "-keyout", f"{name}.key", "-out", f"{name}.pem",
            "-subj", f"/O=Example/CN={name}", "-days", "30", *extensions)


def leaf(directory, name, issuer, server_names=(), organization="Example", serial=None):
    """A certificate for a server with these names, or for a client without any: NAME.pem and NAME.key, which nobody sees half
    written."""
    extensions = ["basicConstraints=critical,CA:false", f"extendedKeyUsage={'serverAuth' if server_names else 'clientAuth'}"]
    if server_names:
        extensions.append("subjectAltName=" + ",".join(f"DNS:{server_name}" for server_name in server_names))
    options = [part for extension in extensions for part in ("-addext", extension)]
    if serial is not None:
        options += ["-set_serial", str(serial)]
    openssl(directory, "req", "-x509", "-config", os.devnull, *KEY, "-keyout", f".{name}.key", "-out", f".{name}.pem",
            "-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-subj", f"/O={organization}/CN={name}", "-days", "10", *options)
    for ending in ("key", "pem"):
        os.rename(directory / f".{name}.{ending}", directory / f"{name}.{ending}")


def revocation_list(directory, file, issuer, serials, number, valid_for=datetime.timedelta(days=5)):
    """A list of these serial numbers, each of its octets; DER. Written as a whole or not at all."""
    certificate = openssl(directory, "x509", "-in", f"{issuer}.pem", "-outform", "DER")
    now = datetime.datetime.now(datetime.timezone.utc)
    revoked = value(UTC_TIME, time(now - datetime.timedelta(hours=1)))
    entries = b"".join(value(SEQUENCE, value(INTEGER, serial) + revoked) for serial in serials)
    at = certificate.index(SUBJECT_KEY_IDENTIFIER) + len(SUBJECT_KEY_IDENTIFIER)
    extensions = [
        value(OID, AUTHORITY_KEY_IDENTIFIER) + value(OCTET_STRING, value(SEQUENCE, value(0x80, certificate[at:at + 20]))),
        value(OID, CRL_NUMBER) + value(OCTET_STRING, value(INTEGER, number.to_bytes(8, "big").lstrip(b"\0") or b"\0")),
    ]
    body = value(INTEGER, b"\1") + ECDSA_WITH_SHA256 + subject(certificate)
    body += value(UTC_TIME, time(now - datetime.timedelta(minutes=5))) + value(UTC_TIME, time(now + valid_for))
    body += value(SEQUENCE, entries) if entries else b""
    body += value(0xa0, value(SEQUENCE, b"".join(value(SEQUENCE, extension) for extension in extensions)))
    signed = value(SEQUENCE, body)
    signature = openssl(directory, "dgst", "-sha256", "-sign", f"{issuer}.key", data=signed)
    half_written = directory / f".{file}"
    half_written.write_bytes(value(SEQUENCE, signed + ECDSA_WITH_SHA256 + value(BIT_STRING, b"\0" + signature)))
    half_written.rename(directory / file)


def random_serials(count):
    """So many serial numbers of sixteen octets, positive and without leading zeros."""
    drawn = os.urandom(15 * count)
    return (b"\x41" + drawn[at:at + 15] for at in range(0, 15 * count, 15))


def subject(certificate):
    """The subject of a certificate, as it stands there."""
    fields = elements(elements(elements(certificate)[0][1])[0][1])
    # Behind version, serial number, algorithm, issuer and validity (RFC 5280 §4.1).
    return fields[5][0]


def elements(data):
    """The elements of DER, each as a whole and its value."""
    found, at = [], 0
    while at < len(data):
        size, head = data[at + 1], 2
        if size >= 0x80:
            head += size - 0x80
            size = int.from_bytes(data[at + 2:at + head], "big")
        found.append((data[at:at + head + size], data[at + head:at + head + size]))
        at += head + size
    return found


def value(tag, content):
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 + len(octets)]) + octets + content


def time(moment):
    return moment.strftime("%y%m%d%H%M%SZ").encode()
