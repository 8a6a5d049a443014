"""AMQP as hub and agents speak it: over pika, whose callbacks cost no task of the event loop each.

::

    Link         connects, again and again
      Connection   one life of it
        Channel      a part of that which can end alone
          Intake       takes messages
          Publishing   sends them, and hears when the broker has them safe

What ends, ends once and is never mended; whoever needs another makes one. Needs the extra ``broker``.
"""
