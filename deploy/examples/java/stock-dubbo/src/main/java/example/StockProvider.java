package example;

import java.net.URI;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.remoting.http12.HttpRequest;
import org.apache.dubbo.remoting.http12.HttpResult;
import org.apache.dubbo.rpc.RpcContext;

/** A Dubbo provider whose Triple protocol the gateway calls as a branch: java -jar stock-dubbo.jar HOST:PORT FILE UNITS. */
public final class StockProvider implements StockService {
    private final Barrier barrier;
    private final long units;

    private StockProvider(String file, long units) throws SQLException {
        this.units = units;
        barrier = new Barrier(file,
                "CREATE TABLE IF NOT EXISTS reservation (id TEXT PRIMARY KEY, sku TEXT NOT NULL, qty INTEGER NOT NULL)");
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 3) {
            System.err.println("usage: java -Djava.net.preferIPv6Addresses=true -jar stock-dubbo.jar HOST:PORT FILE UNITS");
            System.exit(2);
        }
        ServiceConfig<StockService> service = new ServiceConfig<>();
        service.setInterface(StockService.class);
        service.setRef(new StockProvider(args[1], Long.parseLong(args[2])));
        ApplicationConfig application = new ApplicationConfig("stock");
        application.setQosEnable(false);
        URI address = URI.create("tri://" + args[0]);
        ProtocolConfig triple = new ProtocolConfig("tri", address.getPort());
        triple.setHost(address.getHost().replaceAll("[\\[\\]]", ""));
        DubboBootstrap.getInstance()
                .application(application)
                .registry(new RegistryConfig(RegistryConfig.NO_AVAILABLE))
                .protocol(triple)
                .service(service)
                .start();
        System.out.println("ready");
        new CountDownLatch(1).await(); // until SIGTERM, to which Dubbo listens
    }

    @Override
    public HttpResult<?> reserve(Reservation r) {
        if (r == null || r.getId() == null || r.getSku() == null || r.getQty() < 1) {
            return answer(422, "body-invalid");
        }
        return branch(tx -> {
            try (PreparedStatement taken =
                            tx.prepareStatement("SELECT coalesce(sum(qty), 0) FROM reservation WHERE sku = ?");
                    PreparedStatement take =
                            tx.prepareStatement("INSERT INTO reservation (id, sku, qty) VALUES (?, ?, ?)")) {
                taken.setString(1, r.getSku());
                try (ResultSet sum = taken.executeQuery()) {
                    if (!sum.next() || sum.getLong(1) + r.getQty() > units) {
                        return false;
                    }
                }
                take.setString(1, r.getId());
                take.setString(2, r.getSku());
                take.setLong(3, r.getQty());
                take.executeUpdate();
                return true;
            }
        }, "sold-out");
    }

    @Override
    public HttpResult<?> release(Reservation r) {
        return branch(tx -> {
            try (PreparedStatement s = tx.prepareStatement("DELETE FROM reservation WHERE id = ?")) {
                s.setString(1, r.getId());
                s.executeUpdate();
                return true;
            }
        }, "refused");
    }

    @Override
    public List<Reservation> list() {
        List<Reservation> all = new ArrayList<>();
        try (Connection db = barrier.open();
                PreparedStatement s = db.prepareStatement("SELECT id, sku, qty FROM reservation ORDER BY id");
                ResultSet rows = s.executeQuery()) {
            while (rows.next()) {
                Reservation r = new Reservation();
                r.setId(rows.getString(1));
                r.setSku(rows.getString(2));
                r.setQty(rows.getLong(3));
                all.add(r);
            }
        } catch (SQLException e) {
            throw new IllegalStateException(e);
        }
        return all;
    }

    /** Runs an effect as the branch that the gateway's header fields name. */
    private HttpResult<?> branch(Barrier.Effect effect, String reason) {
        HttpRequest request = RpcContext.getServiceContext().getRequest(HttpRequest.class);
        String gid = request.header("sluice-transaction");
        String branch = request.header("sluice-branch");
        String op = request.header("sluice-op");
        if (gid == null || branch == null || op == null) {
            return answer(400, "no-branch"); // only the gateway calls
        }
        try {
            return barrier.call(gid, branch, op, effect) == Barrier.Result.DONE
                    ? answer(200, "done")
                    : answer(409, reason);
        } catch (SQLException e) {
            e.printStackTrace();
            return answer(500, "internal-error"); // the branch comes again
        }
    }

    private static HttpResult<?> answer(int status, String reason) {
        return HttpResult.builder().status(status).body(Map.of("reason", reason)).build();
    }
}
