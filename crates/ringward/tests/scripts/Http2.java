import java.io.ByteArrayInputStream;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpClient.Version;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Java's HttpClient. Arguments: port, CA, PKCS#12 file, its password. Prints one word per step. */
public class Http2 {
    static final String STRICT = "api.example.com";
    static final String OPTIONAL = "optional.example.com";
    static String port;

    public static void main(String[] arguments) throws Exception {
        port = arguments[0];
        KeyStore own = KeyStore.getInstance("PKCS12");
        try (InputStream file = new FileInputStream(arguments[2])) {
            own.load(file, arguments[3].toCharArray());
        }
        HttpClient partner = client(arguments[1], own, arguments[3].toCharArray());
        HttpClient anonymous = client(arguments[1], null, null);
        List<Object> words = new ArrayList<>();

        words.add(ask(partner, get(STRICT, "/a")).statusCode());
        words.add(ask(anonymous, get(OPTIONAL, "/public")).statusCode());
        HttpResponse<byte[]> denied = ask(anonymous, get(OPTIONAL, "/private"));
        check(new String(denied.body()).equals("not for you\n"), denied);
        words.add(denied.statusCode());
        // It has a connection for each host, and cannot be made to name another one but by a field that contradicts.
        words.add(ask(anonymous, get(OPTIONAL, "/public").header("host", STRICT)).statusCode());
        try {
            words.add(ask(anonymous, get(STRICT, "/a")).statusCode());
        } catch (IOException refused) {
            words.add("refused");
        }

        byte[] body = new byte[20 << 20];
        for (int n = 0; n < body.length; n++) body[n] = (byte) (n * 31 + (n >> 8));
        String hash = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(body));
        BodyPublisher unknownLength = BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body));
        for (BodyPublisher publisher : List.of(BodyPublishers.ofByteArray(body), unknownLength)) {
            String echo = new String(ask(partner, request(STRICT, "/upload").POST(publisher)).body());
            check(echo.contains(hash), echo);
        }
        words.add("upload-ok");

        List<CompletableFuture<HttpResponse<byte[]>>> streams = new ArrayList<>();
        for (int n = 0; n < 50; n++) {
            streams.add(partner.sendAsync(get(STRICT, "/big/" + (100_000 + n)).build(), BodyHandlers.ofByteArray()));
        }
        for (int n = 0; n < streams.size(); n++) {
            check(streams.get(n).get().body().length == 100_000 + n, n);
        }
        // Leaves a response in the middle, which resets its stream.
        HttpRequest large = get(STRICT, "/big/5000000").build();
        try (InputStream some = partner.send(large, BodyHandlers.ofInputStream()).body()) {
            some.readNBytes(100);
        }
        check(ask(partner, get(STRICT, "/status/204")).statusCode() == 204, "204");
        check(ask(partner, get(STRICT, "/trailers")).statusCode() == 200, "trailers");
        words.add("streams-ok");
        System.out.println(String.join(" ", words.stream().map(Object::toString).toList()));
        // Its threads would wait for the connections.
        System.exit(0);
    }

    static HttpClient client(String ca, KeyStore own, char[] password) throws Exception {
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null, null);
        try (InputStream file = new FileInputStream(ca)) {
            trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(own, password);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(own == null ? null : keys.getKeyManagers(), trust.getTrustManagers(), null);
        return HttpClient.newBuilder().version(Version.HTTP_2).sslContext(context).build();
    }

    static HttpRequest.Builder request(String host, String path) {
        URI uri = URI.create("https://" + host + ":" + port + path);
        return HttpRequest.newBuilder(uri).timeout(Duration.ofSeconds(20));
    }

    static HttpRequest.Builder get(String host, String path) {
        return request(host, path).GET();
    }

    static HttpResponse<byte[]> ask(HttpClient client, HttpRequest.Builder request) throws Exception {
        HttpResponse<byte[]> response = client.send(request.build(), BodyHandlers.ofByteArray());
        check(response.version() == Version.HTTP_2, response.version());
        return response;
    }

    static void check(boolean condition, Object seen) {
        if (!condition) throw new IllegalStateException(String.valueOf(seen));
    }
}
