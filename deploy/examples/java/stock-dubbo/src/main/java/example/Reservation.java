package example;

import java.io.Serializable;

/** Units of an item that a transaction has. */
public class Reservation implements Serializable {
    private String id;
    private String sku;
    private long qty;

    public String getId() {
        return id;
    }

    public void setId(String id) {
        this.id = id;
    }

    public String getSku() {
        return sku;
    }

    public void setSku(String sku) {
        this.sku = sku;
    }

    public long getQty() {
        return qty;
    }

    public void setQty(long qty) {
        this.qty = qty;
    }
}
