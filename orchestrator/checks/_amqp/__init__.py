"""`amqp`: a broker that speaks AMQP 0-9-1, such as RabbitMQ."""
