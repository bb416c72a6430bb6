package example;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Map;
import org.sqlite.SQLiteConfig;

/**
 * The barrier of sagaclient/participant/PROTOCOL.md, on SQLite: each operation of a branch takes effect at most once, an
 * undo without its do does nothing, and a do after its undo is refused. The rows are written in the transaction of the
 * effect. Safe for concurrent use.
 */
public final class Barrier {
    /** What became of a call. */
    public enum Result {
        /** It is done, now or by an earlier call, or there was nothing to undo: respond with 2xx. */
        DONE,
        /** The service refuses it, or it comes after its undo: respond with 409. */
        REFUSED
    }

    /** What a service does in the transaction. False refuses it: what was written is rolled back. */
    public interface Effect {
        boolean run(Connection tx) throws SQLException;
    }

    private static final Map<String, String> UNDOES =
            Map.of("compensate", "action", "cancel", "try", "rollback", "action");

    private final String url;
    private final SQLiteConfig config = new SQLiteConfig();

    /** Opens the file, and makes the table of the barrier and those of the service where they are missing. */
    public Barrier(String file, String... tables) throws SQLException {
        url = "jdbc:sqlite:" + file;
        config.setTransactionMode(SQLiteConfig.TransactionMode.IMMEDIATE);
        config.setJournalMode(SQLiteConfig.JournalMode.WAL);
        config.setSynchronous(SQLiteConfig.SynchronousMode.NORMAL);
        config.setBusyTimeout(5000);
        try (Connection db = config.createConnection(url); Statement s = db.createStatement()) {
            s.execute("CREATE TABLE IF NOT EXISTS barrier (gid TEXT NOT NULL, branch_id TEXT NOT NULL, op TEXT NOT NULL,"
                    + " reason TEXT NOT NULL, UNIQUE (gid, branch_id, op))");
            for (String table : tables) {
                s.execute(table);
            }
        }
    }

    /** Opens a connection, for reading. */
    public Connection open() throws SQLException {
        return config.createConnection(url);
    }

    /** Runs one call of one branch. An exception says that nothing was done, or that it is not known: respond with 5xx. */
    public Result call(String gid, String branch, String op, Effect effect) throws SQLException {
        try (Connection tx = open()) {
            tx.setAutoCommit(false);
            try {
                Result result = decide(tx, gid, branch, op, effect);
                if (result == Result.DONE) {
                    tx.commit();
                } else {
                    tx.rollback();
                }
                return result;
            } catch (SQLException | RuntimeException e) {
                tx.rollback();
                throw e;
            }
        }
    }

    private static Result decide(Connection tx, String gid, String branch, String op, Effect effect)
            throws SQLException {
        String undone = UNDOES.get(op);
        boolean nothingToUndo = undone != null && inserted(tx, gid, branch, undone, op);
        boolean first = inserted(tx, gid, branch, op, op);
        if (nothingToUndo) {
            return Result.DONE;
        }
        if (!first) {
            return op.equals(reason(tx, gid, branch, op)) ? Result.DONE : Result.REFUSED;
        }
        return effect.run(tx) ? Result.DONE : Result.REFUSED;
    }

    private static boolean inserted(Connection tx, String gid, String branch, String op, String reason)
            throws SQLException {
        try (PreparedStatement s = tx.prepareStatement("INSERT INTO barrier (gid, branch_id, op, reason) VALUES"
                + " (?, ?, ?, ?) ON CONFLICT (gid, branch_id, op) DO NOTHING")) {
            s.setString(1, gid);
            s.setString(2, branch);
            s.setString(3, op);
            s.setString(4, reason);
            return s.executeUpdate() > 0;
        }
    }

    private static String reason(Connection tx, String gid, String branch, String op) throws SQLException {
        try (PreparedStatement s =
                tx.prepareStatement("SELECT reason FROM barrier WHERE gid = ? AND branch_id = ? AND op = ?")) {
            s.setString(1, gid);
            s.setString(2, branch);
            s.setString(3, op);
            try (ResultSet r = s.executeQuery()) {
                r.next();
                return r.getString(1);
            }
        }
    }
}
