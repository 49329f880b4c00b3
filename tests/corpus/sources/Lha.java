import java.io.File;
import java.io.FileOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Date;
import java.util.Properties;
import jp.gr.java_conf.dangan.util.lha.LhaHeader;
import jp.gr.java_conf.dangan.util.lha.LhaOutputStream;
import jp.gr.java_conf.dangan.util.lha.LhaProperty;

/** Lha OUT (METHOD LEVEL NAME FILE)…: an archive by jLHA, its names in the code page of Windows. */
public class Lha {
    public static void main(String[] args) throws Exception {
        Properties properties = LhaProperty.getProperties();
        properties.setProperty("lha.encoding", "MS932");
        try (LhaOutputStream out = new LhaOutputStream(new FileOutputStream(args[0]), properties)) {
            for (int n = 1; n < args.length; n += 4) {
                LhaHeader header = new LhaHeader(args[n + 2].replace("/", File.separator));
                header.setLastModified(new Date(1775001600000L)); // 2026-04-01
                header.setCompressMethod("-" + args[n] + "-");
                header.setHeaderLevel(Integer.parseInt(args[n + 1]));
                out.putNextEntry(header);
                out.write(Files.readAllBytes(Path.of(args[n + 3])));
                out.closeEntry();
            }
        }
    }
}
