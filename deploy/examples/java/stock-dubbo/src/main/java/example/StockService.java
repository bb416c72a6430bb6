package example;

import java.util.List;
import org.apache.dubbo.remoting.http12.HttpResult;

/** The stock, over Triple: POST /example.StockService/reserve and so on, with JSON. */
public interface StockService {
    /** Takes units of an item; 409 when there are too few. */
    HttpResult<?> reserve(Reservation reservation);

    /** Gives back what reserve took. */
    HttpResult<?> release(Reservation reservation);

    /** All units that are reserved, for whoever compares the books. */
    List<Reservation> list();
}
