package example;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RequestHeader;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.client.RestClient;

/** Charges and refunds cards. */
@RestController
class PaymentController {
    record Payment(String id, String user, long amount) {}

    record Card(long limit) {}

    private final Barrier barrier;
    private final RestClient cards;

    PaymentController(Barrier barrier, RestClient.Builder builder) {
        this.barrier = barrier;
        cards = builder.baseUrl("http://card").build(); // a name; Spring Cloud knows its addresses
    }

    @PostMapping("/v1/payments")
    ResponseEntity<Map<String, String>> charge(
            @RequestHeader("Sluice-Transaction") String gid,
            @RequestHeader("Sluice-Branch") String branch,
            @RequestHeader("Sluice-Op") String op,
            @RequestBody Payment p)
            throws SQLException {
        // Before the transaction: no lock is held while another service is asked. It fails: 500, the branch comes again.
        Card card = cards.get().uri("/v1/cards/{user}", p.user()).retrieve().body(Card.class);
        if (card == null || p.amount() < 1 || p.amount() > card.limit()) {
            return ResponseEntity.status(402).body(Map.of("reason", "card-declined"));
        }
        Barrier.Result result = barrier.call(gid, branch, op, tx -> {
            try (PreparedStatement s =
                    tx.prepareStatement("INSERT INTO payment (id, user, amount) VALUES (?, ?, ?)")) {
                s.setString(1, p.id());
                s.setString(2, p.user());
                s.setLong(3, p.amount());
                s.executeUpdate();
                return true;
            }
        });
        return answer(result);
    }

    @PostMapping("/v1/payments/{id}/refund")
    ResponseEntity<Map<String, String>> refund(
            @RequestHeader("Sluice-Transaction") String gid,
            @RequestHeader("Sluice-Branch") String branch,
            @RequestHeader("Sluice-Op") String op,
            @PathVariable("id") String id)
            throws SQLException {
        return answer(barrier.call(gid, branch, op, tx -> {
            try (PreparedStatement s = tx.prepareStatement("DELETE FROM payment WHERE id = ?")) {
                s.setString(1, id);
                s.executeUpdate();
                return true;
            }
        }));
    }

    @GetMapping("/v1/payments")
    List<Payment> list() throws SQLException {
        List<Payment> all = new ArrayList<>();
        try (Connection db = barrier.open();
                PreparedStatement s = db.prepareStatement("SELECT id, user, amount FROM payment ORDER BY id");
                ResultSet rows = s.executeQuery()) {
            while (rows.next()) {
                all.add(new Payment(rows.getString(1), rows.getString(2), rows.getLong(3)));
            }
        }
        return all;
    }

    @GetMapping("/healthz")
    Map<String, String> health() {
        return Map.of("status", "ok");
    }

    private static ResponseEntity<Map<String, String>> answer(Barrier.Result result) {
        return result == Barrier.Result.DONE
                ? ResponseEntity.ok(Map.of("reason", "done"))
                : ResponseEntity.status(409).body(Map.of("reason", "refused"));
    }
}
